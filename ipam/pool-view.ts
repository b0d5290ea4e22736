/** Reads of a pool and what surrounds it, from etcd's answer to a view that a group can be decided against. */
import { ConflictError, InvalidError } from '../model/errors.js';
import { AddressOwner, PoolRecord, SpareRecord } from '../model/records.js';
import type { HostName, IpAddress, NetworkId } from '../model/scalars.js';
import type { KeyValue } from '../store/client.js';
import { type Keys, poolLockRange } from '../store/keys.js';
import { findRecord, parseRecord } from '../store/table.js';
import type { Read } from '../store/transaction.js';
import { poolGone } from './changes.js';
import type { Asked, KnownOwner, Plan, PoolView, Spare } from './plan.js';
import { Pool } from './pool.js';

/** What a refused transaction brings back; `parseReads` takes it in the same order. */
export const readsFor = (keys: Keys, networkId: NetworkId, { addresses, bearers }: Asked): Read[] => [
  { key: keys.network(networkId) },
  { key: keys.pool(networkId) },
  { prefix: poolLockRange(networkId) },
  { prefix: keys.addressSpares(networkId) },
  ...addresses.map(address => ({ key: keys.addressOwner(networkId, address) })),
  ...bearers.map(key => ({ key })),
];

export type ReadPool =
  | { readonly state: 'gone' }
  | { readonly state: 'there'; readonly view: PoolView; readonly locked: boolean };

/**
 * @param before what was known, and is not to be used any more: owners not read again stay as they were.
 * @throws ConflictError: the pool is missing or a record is broken.
 */
export function parseReads(
  { keys, networkId, before }: { keys: Keys; networkId: NetworkId; before: PoolView | undefined },
  { addresses, bearers }: Asked,
  found: readonly KeyValue[][],
): ReadPool {
  const [[network] = [], [pool] = [], lock = [], spares = [], ...rest] = found;
  if (!network) return { state: 'gone' };
  if (!pool) throw poolGone(networkId, keys.pool(networkId));
  const owners = before?.owners ?? new Map<IpAddress, KnownOwner>();
  addresses.forEach((address, i) => {
    owners.set(address, ownerOf(rest[i]?.[0]));
  });
  const gone = bearers.filter((_, i) => rest[addresses.length + i]?.length === 0);
  const view: PoolView = {
    pool: poolOf(pool, networkId),
    poolRevision: pool.modRevision,
    spares: new Map(spares.map(entry => [hostOf(entry.key), spareOf(entry)])),
    owners,
    gone: new Set([...(before?.gone ?? []), ...gone]),
  };
  return { state: 'there', view, locked: lock.length > 0 };
}

/** A record that contradicts itself is no fault of the request: the message has to name the key. */
function poolOf(entry: KeyValue, networkId: NetworkId): Pool {
  try {
    return Pool.fromRecord(parseRecord(PoolRecord, entry, { id: networkId }));
  } catch (cause) {
    if (!(cause instanceof InvalidError)) throw cause;
    throw new ConflictError(
      `The value of etcd key ${entry.key} is broken: ${cause.message}; restore or delete the key`,
      { cause, key: entry.key },
    );
  }
}

const hostOf = (key: string) => key.slice(key.lastIndexOf('/') + 1) as HostName;

/** Whose the address is cannot be told, so it is nobody's here to take or to free; the others are not harmed. */
const UNREADABLE: AddressOwner = {
  kind: 'endpoint',
  hostname: 'unknown' as HostName,
  op: '',
  at: 0,
};

const ownerOf = (entry: KeyValue | undefined): KnownOwner =>
  entry
    ? { owner: findRecord(AddressOwner, entry) ?? UNREADABLE, revision: entry.modRevision }
    : { owner: undefined, revision: 0 };

const spareOf = (entry: KeyValue): Spare => ({
  // Broken, it offers nothing: its addresses stay taken in the pool until `verify` has it mended.
  addresses: findRecord(SpareRecord, entry)?.addresses ?? [],
  revision: entry.modRevision,
});

/** The view when a plan has been committed at `revision`; the one before is over. Freed addresses are forgotten. */
export function viewAfter(view: PoolView, plan: Plan, revision: number): PoolView {
  const spares = new Map(view.spares);
  for (const [host, addresses] of plan.spares) {
    if (addresses.length > 0) spares.set(host, { addresses, revision });
    else spares.delete(host);
  }
  const { owners } = view;
  for (const [address, owner] of plan.owners) {
    if (owner === undefined) owners.delete(address);
    else if (owner !== view.owners.get(address)?.owner) owners.set(address, { owner, revision });
  }
  const pool = plan.poolWritten
    ? { pool: plan.pool, poolRevision: revision }
    : { pool: view.pool, poolRevision: view.poolRevision };
  return { ...pool, spares, owners, gone: view.gone };
}
