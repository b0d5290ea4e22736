/** Owners of addresses that are not plainly right. */
import type { HostName } from '../model/scalars.js';
import type { KeyValue, StoreClient } from '../store/client.js';
import { readWanted } from '../store/follow.js';
import { partsOf } from '../store/key-parts.js';
import type { Keys } from '../store/keys.js';
import type { Mirror } from './mirror.js';

export interface DoubtfulDependencies {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly mirror: Mirror;
}

/**
 * Owner keys whose value names the host, but those that were written together with the record of the endpoint that bears their address, as
 * far as the mirror knows: every host asks, at its start and once an hour, and of these it is sent no more than the key.
 * @throws UnavailableError.
 */
export async function readDoubtfulOwners(
  { store, keys, mirror }: DoubtfulDependencies,
  host: HostName,
): Promise<KeyValue[]> {
  const doubtful = await readWanted(store, keys.allAddressOwners, ({ key, modRevision }) => {
    const parts = partsOf(keys, key);
    return parts.family !== 'owner' || mirror.bornAt(parts.network, parts.address) !== modRevision;
  });
  return doubtful.filter(({ value }) => value.includes(host));
}
