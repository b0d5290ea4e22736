/**
 * What is left of this host when an agent of the original had it for a while, after ours: it deletes the keys that it
 * knows, and ours beside them stay. Looked for once, at the start.
 */
import { randomUUID } from 'node:crypto';
import type { Addresses } from '../ipam/addresses.js';
import { addressTaken, type OwnerCheck } from '../ipam/changes.js';
import { describeError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import { AddressOwner, type BindingRecord, isPending } from '../model/records.js';
import {
  type HostName,
  type IpAddress,
  type NetworkId,
  parseIpAddress,
  parseNetworkId,
} from '../model/scalars.js';
import type { KeyValue, StoreClient } from '../store/client.js';
import { readSnapshot } from '../store/follow.js';
import type { Keys } from '../store/keys.js';
import { parseRecord } from '../store/table.js';
import { readKey, transact, type Write } from '../store/transaction.js';
import type { Mirror } from './mirror.js';

/** Chosen: Docker makes an endpoint right after it asked for the address, and returns it right after the endpoint. */
const RESERVATION_LASTS_MS = 10 * 60_000;

export interface OrphansDependencies {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly mirror: Mirror;
  readonly addresses: Addresses;
  readonly host: HostName;
  readonly log: Logger;
}

export class Orphans {
  readonly #deps: OrphansDependencies;

  constructor(deps: OrphansDependencies) {
    this.#deps = deps;
  }

  /** @throws UnavailableError. */
  async remove(): Promise<void> {
    const { mirror, host } = this.#deps;
    for (const { record } of mirror.networks()) {
      for (const binding of mirror.bindings(record.id)) {
        if (binding.hostname === host && !isPending(binding)) await this.#checkBinding(binding);
      }
    }
    await this.#freeAddresses();
  }

  /** Ours writes a binding with a key that the original knows, and deletes at `docker network rm`. */
  async #checkBinding({ network_id, docker_network_id }: BindingRecord): Promise<void> {
    const { store, keys, mirror, host, log } = this.#deps;
    const writes: Write[] = [{ delete: keys.binding(network_id, host, docker_network_id) }];
    const conditions = [{ absent: keys.dockerNetwork(docker_network_id) }];
    const result = await transact(store, { conditions, writes });
    if (!result.committed) return;
    mirror.applyCommit(writes, result.revision);
    log.info('binding of a Docker network that is gone removed', {
      network_id,
      docker_id: docker_network_id,
    });
  }

  /** Owners of this host without an endpoint. */
  async #freeAddresses(): Promise<void> {
    const { store, keys, log } = this.#deps;
    const { entries } = await readSnapshot(store, keys.allAddressOwners);
    for (const entry of entries) {
      await this.#check(entry).catch(error => {
        log.warn('owner of an address not checked', { key: entry.key, err: describeError(error) });
      });
    }
  }

  async #check(entry: KeyValue): Promise<void> {
    const { addresses, mirror, host, log } = this.#deps;
    const owner = parseRecord(AddressOwner, entry);
    const [address, network] = entry.key.split('/').reverse();
    const at = { network: parseNetworkId(network), address: parseIpAddress(address) };
    if (owner.hostname !== host || !mirror.network(at.network) || (await this.#isInUse(owner, at))) return;
    const from: OwnerCheck = found =>
      found?.op === owner.op ? undefined : addressTaken(at.address, at.network, found);
    await addresses.commit({
      networkId: at.network,
      op: randomUUID(),
      step: { kind: 'free', address: at.address, from },
      endpoints: 0,
      writes: () => [],
    });
    log.info('address without an endpoint returned', { network_id: at.network, address: at.address });
  }

  /** The mirror may not have heard yet of an endpoint that was made a moment ago. */
  async #isInUse({ kind, endpoint_id, at }: AddressOwner, where: At): Promise<boolean> {
    const { store, keys, mirror } = this.#deps;
    if (kind === 'endpoint' && endpoint_id) {
      if (mirror.localEndpoint(endpoint_id)) return true;
      return (await readKey(store, keys.networkEndpoint(where.network, endpoint_id))) !== undefined;
    }
    const isOld = Date.now() - at > RESERVATION_LASTS_MS;
    return kind !== 'reservation' || !isOld || mirror.bearerOf(where.network, where.address) !== undefined;
  }
}

interface At {
  readonly network: NetworkId;
  readonly address: IpAddress;
}
