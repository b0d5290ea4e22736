/** Reads of a pool and what surrounds it, from etcd's answer to a view that a group can be decided against. */
import { z } from 'zod';
import { AddressOwner, PoolRecord } from '../model/records.js';
import { type HostName, type IpAddress, type NetworkId, parseIpAddress } from '../model/scalars.js';
import type { KeyValue } from '../store/client.js';
import { type Keys, poolLockRange } from '../store/keys.js';
import { parseRecord } from '../store/table.js';
import type { Read } from '../store/transaction.js';
import { type KnownOwner, type Plan, type PoolView, poolGone, type Spare } from './group.js';
import { Pool } from './pool.js';

const SpareRecord = z.object({ addresses: z.array(z.string()) });

/** What a refused transaction brings back; `parseReads` takes it in the same order. */
export const readsFor = (keys: Keys, networkId: NetworkId, addresses: readonly IpAddress[]): Read[] => [
  { key: keys.network(networkId) },
  { key: keys.pool(networkId) },
  { prefix: poolLockRange(networkId) },
  { prefix: keys.addressSpares(networkId) },
  ...addresses.map(address => ({ key: keys.addressOwner(networkId, address) })),
];

export type ReadPool =
  | { readonly state: 'gone' }
  | { readonly state: 'there'; readonly view: PoolView; readonly locked: boolean };

/**
 * @param before what was known: owners not read again stay as they were.
 * @throws ConflictError: the pool is missing or a record is broken.
 */
export function parseReads(
  keys: Keys,
  networkId: NetworkId,
  addresses: readonly IpAddress[],
  found: readonly KeyValue[][],
  before: PoolView | undefined,
): ReadPool {
  const [[network] = [], [pool] = [], lock = [], spares = [], ...owners] = found;
  if (!network) return { state: 'gone' };
  if (!pool) throw poolGone(networkId, keys.pool(networkId));
  const known = new Map(before?.owners);
  addresses.forEach((address, i) => {
    known.set(address, ownerOf(owners[i]?.[0]));
  });
  const view: PoolView = {
    pool: Pool.fromRecord(parseRecord(PoolRecord, pool)),
    poolRevision: pool.modRevision,
    spares: new Map(spares.map(entry => [hostOf(entry.key), spareOf(entry)])),
    owners: known,
  };
  return { state: 'there', view, locked: lock.length > 0 };
}

const hostOf = (key: string) => key.slice(key.lastIndexOf('/') + 1) as HostName;

const ownerOf = (entry: KeyValue | undefined): KnownOwner =>
  entry
    ? { owner: parseRecord(AddressOwner, entry), revision: entry.modRevision }
    : { owner: undefined, revision: 0 };

const spareOf = (entry: KeyValue): Spare => ({
  addresses: parseRecord(SpareRecord, entry).addresses.map(text => parseIpAddress(text)),
  revision: entry.modRevision,
});

/** The view when a plan has been committed at `revision`. Freed addresses are forgotten. */
export function viewAfter(view: PoolView, plan: Plan, revision: number): PoolView {
  const spares = new Map(view.spares);
  for (const [host, addresses] of plan.spares) {
    if (addresses.length > 0) spares.set(host, { addresses, revision });
    else spares.delete(host);
  }
  const owners = new Map(view.owners);
  for (const [address, owner] of plan.owners) {
    if (owner === undefined) owners.delete(address);
    else if (owner !== view.owners.get(address)?.owner) owners.set(address, { owner, revision });
  }
  return { pool: plan.pool, poolRevision: plan.poolWritten ? revision : view.poolRevision, spares, owners };
}
