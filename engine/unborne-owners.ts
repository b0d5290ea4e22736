/** Addresses that are taken while no endpoint bears them. */
import type { KeyValue, StoreClient } from '../store/client.js';
import { readWanted } from '../store/follow.js';
import { partsOf } from '../store/key-parts.js';
import type { Keys } from '../store/keys.js';
import type { Mirror } from './mirror.js';

export interface UnborneDependencies {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly mirror: Mirror;
}

/**
 * Their owner keys, of every host, as far as the mirror knows; and those that no agent names so. Every host asks, at its start
 * and once an hour: of all others it is sent no more than the key. @throws UnavailableError.
 */
export function readUnborneOwners({ store, keys, mirror }: UnborneDependencies): Promise<KeyValue[]> {
  return readWanted(store, keys.allAddressOwners, key => {
    const parts = partsOf(keys, key);
    return parts.family !== 'owner' || mirror.bearerOf(parts.network, parts.address) === undefined;
  });
}
