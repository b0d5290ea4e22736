/** One pool put right in one transaction, from the truth at one revision and only while that still holds. */
import type { HostName, IpAddress } from '../model/scalars.js';
import type { StoreClient } from '../store/client.js';
import { type Keys, poolLockRange } from '../store/keys.js';
import { type Condition, transact, type Write } from '../store/transaction.js';
import type { NetworkTruth } from './truth.js';

export interface PoolMending {
  readonly free: readonly IpAddress[];
  readonly take: readonly IpAddress[];
  /** Hosts that do not come back for what they took ahead of need. */
  readonly endSparesOf: readonly HostName[];
}

/**
 * False: somebody changed the pool or took an address meanwhile, or an agent of the original holds its lock; look again.
 * @param revision at which the truth was read
 */
export async function mendPool(
  { store, keys }: { readonly store: StoreClient; readonly keys: Keys },
  { id, pool, spares }: NetworkTruth,
  revision: number,
  { free, take, endSparesOf }: PoolMending,
): Promise<boolean> {
  if (!pool) return false;
  const mended = pool.value.copy();
  for (const address of free) mended.free(address);
  for (const address of take) mended.take(address);
  const families = [keys.addressOwners(id), keys.networkEndpoints(id), keys.addressSpares(id)];
  const conditions: Condition[] = [
    { exists: keys.network(id) },
    { unchanged: pool.key, revision: pool.modRevision },
    { empty: poolLockRange(id) },
    ...families.map(family => ({ quiet: family, since: revision })),
  ];
  const writes: Write[] = [
    { put: pool.key, value: mended.toRecord() },
    ...endSparesOf.flatMap(host => (spares.has(host) ? [{ delete: keys.addressSpare(id, host) }] : [])),
  ];
  return (await transact(store, { conditions, writes })).committed;
}
