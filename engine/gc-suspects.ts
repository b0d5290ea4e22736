/**
 * In which networks something may be taken for nobody that an agent returns by itself: found with the owners of its host's
 * addresses and what it knows anyway. Every host looks once an hour, and all of the truth would be ten times as much to read.
 */
import { AddressOwner } from '../model/records.js';
import type { HostName, IpAddress, NetworkId } from '../model/scalars.js';
import type { KeyValue, StoreClient } from '../store/client.js';
import { readSnapshot } from '../store/follow.js';
import { partsOf } from '../store/key-parts.js';
import type { Keys } from '../store/keys.js';
import { findRecord } from '../store/table.js';
import { ownerFault } from './address-audit.js';
import { readDoubtfulOwners } from './doubtful-owners.js';
import type { HostSettings } from './host.js';
import type { Mirror } from './mirror.js';

export interface SuspectsDependencies {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly mirror: Mirror;
  readonly host: Pick<HostSettings, 'name'>;
  /** Writes nothing any more. */
  isGone(host: HostName): boolean;
}

/**
 * Networks to be looked at as a whole. What the mirror has not heard of yet may make one too many; or one too few, which the
 * next look finds. @throws UnavailableError.
 */
export async function suspectNetworks(deps: SuspectsDependencies): Promise<Set<NetworkId>> {
  const { store, keys, host, isGone } = deps;
  const suspects = new Set<NetworkId>();
  for (const entry of await readDoubtfulOwners(deps, host.name)) {
    const parts = partsOf(keys, entry.key);
    if (parts.family === 'owner' && isSuspect(entry, parts, deps)) suspects.add(parts.network);
  }
  for (const { key } of (await readSnapshot(store, keys.allAddressSpares)).entries) {
    const parts = partsOf(keys, key);
    if (parts.family === 'spare' && isGone(parts.host)) suspects.add(parts.network);
  }
  return suspects;
}

/** A value that nobody can read is not this host's to judge. */
function isSuspect(
  entry: KeyValue,
  { network, address }: { readonly network: NetworkId; readonly address: IpAddress },
  { mirror, host }: SuspectsDependencies,
): boolean {
  const owner = findRecord(AddressOwner, entry);
  if (owner?.hostname !== host.name || mirror.bearerOf(network, address) !== undefined) return false;
  const { endpoint_id: endpoint } = owner;
  const fault = ownerFault(owner, {
    nowMs: Date.now(),
    hasRecord: endpoint !== undefined && mirror.localEndpoint(endpoint) !== undefined,
    isBorne: false,
    isListedAux: mirror.bindings(network).some(({ aux_addresses }) => aux_addresses.includes(address)),
  });
  return fault !== undefined;
}
