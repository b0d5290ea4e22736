/**
 * What is left of this host. Reservations that nobody came back for: Docker asks for an address and never says that it
 * has given up, and an agent that is killed forgets what it promised. And what an agent of the original leaves that had
 * the host for a while, after ours: it deletes the keys that it knows, and ours beside them stay. Owners are read once,
 * at the start; from then on this agent's own commits tell.
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
import type { Keys } from '../store/keys.js';
import { parseRecord } from '../store/table.js';
import { keyOf, readKey, transact, type Write } from '../store/transaction.js';
import { isOld, ownerFault } from './address-audit.js';
import { readDoubtfulOwners } from './doubtful-owners.js';
import type { Mirror } from './mirror.js';
import { type OwnPorts, portThatMayBear } from './own-ports.js';

export interface OrphansDependencies {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly mirror: Mirror;
  readonly addresses: Addresses;
  readonly host: HostName;
  readonly log: Logger;
  /** What this host's kernel has now. */
  look(): Promise<OwnPorts>;
}

export class Orphans {
  readonly #deps: OrphansDependencies;
  /** This host's reservations, by key. */
  readonly #reserved = new Map<string, AddressOwner>();

  constructor(deps: OrphansDependencies) {
    this.#deps = deps;
  }

  /** Takes note of what this agent has committed. */
  note(writes: readonly Write[]): void {
    for (const write of writes) {
      const key = keyOf(write);
      if (!key.startsWith(this.#deps.keys.allAddressOwners)) continue;
      const owner = 'put' in write ? (write.value as AddressOwner) : undefined;
      if (owner?.kind === 'reservation') this.#reserved.set(key, owner);
      else this.#reserved.delete(key);
    }
  }

  /** Returns the reservations that are old by now. Those that fail are tried again by the next call. */
  async returnOld(nowMs = Date.now()): Promise<void> {
    const old = [...this.#reserved].filter(([, owner]) => isOld(owner, nowMs));
    if (old.length === 0) return;
    const ports = await this.#deps.look();
    for (const [key, owner] of old) {
      await this.#check({ key, owner, nowMs, ports }).catch(error => {
        this.#deps.log.debug('old reservation not returned yet', { key, err: describeError(error) });
      });
    }
  }

  /**
   * @param ports what the kernel had before it was made equal to the truth: an address that a container runs with stays,
   * whatever became of its record
   * @throws UnavailableError.
   */
  async remove(ports: OwnPorts): Promise<void> {
    const { mirror, host } = this.#deps;
    for (const { record } of mirror.networks()) {
      for (const binding of mirror.bindings(record.id)) {
        if (binding.hostname === host && !isPending(binding)) await this.#checkBinding(binding);
      }
    }
    await this.#freeAddresses(ports);
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
  async #freeAddresses(ports: OwnPorts): Promise<void> {
    const { host, log } = this.#deps;
    for (const entry of await readDoubtfulOwners(this.#deps, host)) {
      await this.#checkEntry(entry, ports).catch(error => {
        log.warn('owner of an address not checked', { key: entry.key, err: describeError(error) });
      });
    }
  }

  async #checkEntry(entry: KeyValue, ports: OwnPorts): Promise<void> {
    const owner = parseRecord(AddressOwner, entry);
    if (owner.hostname !== this.#deps.host) return;
    if (owner.kind === 'reservation') this.#reserved.set(entry.key, owner);
    await this.#check({ key: entry.key, owner, nowMs: Date.now(), ports });
  }

  async #check({ key, owner, nowMs, ports }: Held): Promise<void> {
    const { addresses, mirror, log } = this.#deps;
    const [address, network] = key.split('/').reverse();
    const at = { network: parseNetworkId(network), address: parseIpAddress(address) };
    if (!mirror.network(at.network)) return void this.#reserved.delete(key);
    if (await this.#isInUse(owner, at, nowMs)) return;
    const port = portThatMayBear(await ports.of(at.network), owner.endpoint_id);
    if (port !== undefined) {
      const facts = { network_id: at.network, address: at.address, port };
      return log.warn('address kept, a container may have it', facts);
    }
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

  async #isInUse(owner: AddressOwner, where: At, nowMs: number): Promise<boolean> {
    const hasRecord = owner.kind === 'endpoint' && (await this.#hasRecord(owner, where));
    const isBorne = this.#deps.mirror.bearerOf(where.network, where.address) !== undefined;
    // Whether Docker still lists an aux address is `gc`'s to find out.
    return ownerFault(owner, { nowMs, hasRecord, isBorne, isListedAux: true }) === undefined;
  }

  /** The mirror may not have heard yet of an endpoint that was made a moment ago. */
  async #hasRecord({ endpoint_id: id }: AddressOwner, { network }: At): Promise<boolean> {
    const { store, keys, mirror } = this.#deps;
    if (id === undefined) return false;
    if (mirror.localEndpoint(id)) return true;
    return (await readKey(store, keys.networkEndpoint(network, id))) !== undefined;
  }
}

/** An owner key of this host. */
interface Held {
  readonly key: string;
  readonly owner: AddressOwner;
  readonly nowMs: number;
  readonly ports: OwnPorts;
}

interface At {
  readonly network: NetworkId;
  readonly address: IpAddress;
}
