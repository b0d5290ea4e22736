/**
 * Which Docker network of this host stands for which SAND network. Docker asks for pools and networks in separate
 * calls that it does not tie together, so a pool that was promised is a pending binding: it keeps the network alive
 * for a minute, and ends by its lease when Docker never comes back.
 */
import { randomUUID } from 'node:crypto';
import type { Engine } from '../engine/engine.js';
import { KeyedMutex } from '../engine/keyed-mutex.js';
import { ConflictError, NotFoundError, UnavailableError } from '../model/errors.js';
import {
  type AddressSource,
  type BindingRecord,
  isPending,
  type Network,
  PENDING,
} from '../model/records.js';
import { type IpAddress, type NetworkId, parseNetworkId } from '../model/scalars.js';
import { readKey, transact, type Write } from '../store/transaction.js';

const PENDING_SECONDS = 60; // chosen: Docker's own retries end within half of that

export interface BindingOptions {
  readonly ipam: AddressSource;
  readonly internal: boolean;
  readonly egress: 'docker' | 'none';
  readonly auxAddresses: readonly IpAddress[];
  /** Bound by an agent of the original. */
  readonly inherited?: boolean;
}

/** What a Docker network is that an agent of the original bound. */
const LEGACY: BindingOptions = {
  ipam: 'sand-ipam',
  internal: false,
  egress: 'docker',
  auxAddresses: [],
  inherited: true,
};

export class Bindings {
  readonly #engine: Engine;
  readonly #turns = new KeyedMutex<string>();

  constructor(engine: Engine) {
    this.#engine = engine;
    engine.keptTeardowns.onUnbind(id => this.unbind(id));
  }

  /** @throws NotFoundError when Docker knows a network that nobody bound. */
  async get(dockerNetworkId: string): Promise<BindingRecord> {
    const { mirror, networks } = this.#engine;
    const known = mirror.binding(dockerNetworkId);
    if (known) return known;
    await this.#engine.ready();
    const id = await this.#legacyNetworkOf(dockerNetworkId);
    if (!id) {
      throw new NotFoundError(
        `Docker network ${dockerNetworkId} is bound to no SAND network on this host; remove and create it again`,
        { docker_network_id: dockerNetworkId },
      );
    }
    await this.bind(dockerNetworkId, await networks.get(id), LEGACY);
    return this.#record(dockerNetworkId, id, LEGACY);
  }

  /** A write that keeps `network` for a minute, to be part of the transaction that makes it, or one of its own. */
  async pendingWrite(networkId: NetworkId): Promise<Write & { readonly put: string }> {
    const { store, keys, host } = this.#engine.options;
    const dockerNetwork = `${PENDING}${randomUUID()}`;
    const lease = await store.grantLease(PENDING_SECONDS);
    const value = this.#record(dockerNetwork, networkId, { ...LEGACY, inherited: false });
    return { put: keys.binding(networkId, host.name, dockerNetwork), value, lease };
  }

  /** Promises the network to this host's Docker. @throws NotFoundError when it is gone by now. */
  async promise(network: Network): Promise<void> {
    await this.#commit(network.record.id, [await this.pendingWrite(network.record.id)]);
  }

  /** Two calls for one of Docker's networks would bind it twice, and its end would untie one. */
  inTurn<T>(dockerNetworkId: string, work: () => Promise<T>): Promise<T> {
    return this.#turns.run(dockerNetworkId, work);
  }

  /** This host's open promise of a network. */
  pendingOf(networkId: NetworkId): BindingRecord | undefined {
    return this.#own(networkId).find(isPending);
  }

  #own(networkId: NetworkId): BindingRecord[] {
    const { mirror, options } = this.#engine;
    return mirror.bindings(networkId).filter(({ hostname }) => hostname === options.host.name);
  }

  /** Networks promised to this host's Docker, not bound yet. */
  promised(): Network[] {
    return this.#engine.networks.list().filter(({ record }) => this.pendingOf(record.id));
  }

  keyOf = (binding: BindingRecord) =>
    this.#engine.options.keys.binding(binding.network_id, binding.hostname, binding.docker_network_id);

  /** Ties Docker's network to ours, in exchange for the promise. A repeated call changes nothing. */
  async bind(dockerNetworkId: string, network: Network, options: BindingOptions): Promise<void> {
    const { mirror } = this.#engine;
    const { id } = network.record;
    const bound = mirror.binding(dockerNetworkId);
    if (bound && bound.network_id !== id) {
      throw new ConflictError(
        `Docker network ${dockerNetworkId} is bound to network ${bound.network_id} already`,
        {
          network_id: bound.network_id,
        },
      );
    }
    if (bound) return;
    const pending = this.pendingOf(id);
    const writes = this.bindWrites(dockerNetworkId, id, options);
    if (pending) writes.push({ delete: this.keyOf(pending) });
    await this.#commit(id, writes).catch(error => this.takeBack(dockerNetworkId, error));
  }

  /** A binding whose answer never came may stand all the same, and Docker forgets the network with the error. */
  takeBack(dockerNetworkId: string, error: unknown): never {
    if (error instanceof UnavailableError) {
      this.#engine.journal.add({ kind: 'binding', docker_network_id: dockerNetworkId });
    }
    throw error;
  }

  bindWrites(dockerNetworkId: string, id: NetworkId, options: BindingOptions): Write[] {
    const { keys, host } = this.#engine.options;
    return [
      {
        put: keys.binding(id, host.name, dockerNetworkId),
        value: this.#record(dockerNetworkId, id, options),
      },
      {
        put: keys.dockerNetwork(dockerNetworkId),
        value: { DockerNetworkID: dockerNetworkId, SandNetworkID: id },
      },
    ];
  }

  /** Drops the promise, later while etcd is away; the network goes with it when Docker made it and nobody else has it. */
  async withdraw(networkId: NetworkId): Promise<void> {
    const pending = this.pendingOf(networkId);
    if (!pending) return;
    const kept = { kind: 'binding', docker_network_id: pending.docker_network_id } as const;
    await this.#engine.journal.orKeep(kept, () => this.#delete([{ delete: this.keyOf(pending) }]));
  }

  /**
   * Docker returns a pool when a creation has failed, and then says no more, or before it deletes the network. In both
   * it has forgotten the network, unless the pool was promised to another one.
   */
  async poolReturned(networkId: NetworkId): Promise<void> {
    if (this.pendingOf(networkId)) return this.withdraw(networkId);
    const [only, ...others] = this.#own(networkId);
    if (only?.ipam !== 'sand-ipam' || others.length > 0) return;
    const { mirror } = this.#engine;
    const { docker_network_id: id } = only;
    const isUsed = mirror.localEndpoints(networkId).some(({ docker }) => docker?.network_id === id);
    if (!isUsed) await this.unbind(id);
  }

  /** Unties Docker's network, with endpoints of it that Docker forgot. Kept for later while etcd is away. */
  async unbind(dockerNetworkId: string): Promise<void> {
    const { mirror, reservations, journal, options } = this.#engine;
    const bound = mirror.binding(dockerNetworkId);
    const kept = { kind: 'binding', docker_network_id: dockerNetworkId } as const;
    if (!bound) {
      if (mirror.revision === 0) return journal.add(kept);
      return journal.orKeep(kept, () => this.#unbindLegacy(dockerNetworkId));
    }
    await this.#removeForgotten(bound.network_id, dockerNetworkId);
    await journal.orKeep(kept, async () => {
      const key = options.keys.dockerNetwork(dockerNetworkId);
      await this.#delete([{ delete: this.keyOf(bound) }, { delete: key }]);
      for (const address of bound.aux_addresses) await reservations.release(bound.network_id, address);
      await this.#engine.networks.removeUnused(bound.network_id);
    });
  }

  async #removeForgotten(networkId: NetworkId, dockerNetworkId: string): Promise<void> {
    const { mirror, endpoints } = this.#engine;
    for (const { id, docker } of mirror.localEndpoints(networkId)) {
      if (docker?.network_id === dockerNetworkId) await endpoints.remove(id, { address: 'returned' });
    }
  }

  /** Bound by an agent of the original, and never used since this host moved over. */
  async #unbindLegacy(dockerNetworkId: string): Promise<void> {
    const networkId = await this.#legacyNetworkOf(dockerNetworkId);
    if (networkId === undefined) return;
    await this.#removeForgotten(networkId, dockerNetworkId);
    await this.#delete([{ delete: this.#engine.options.keys.dockerNetwork(dockerNetworkId) }]);
  }

  async #legacyNetworkOf(dockerNetworkId: string): Promise<NetworkId | undefined> {
    const { store, keys } = this.#engine.options;
    const entry = await readKey(store, keys.dockerNetwork(dockerNetworkId));
    return entry && parseNetworkId(JSON.parse(entry.value).SandNetworkID, 'SandNetworkID');
  }

  async #commit(networkId: NetworkId, writes: readonly Write[]): Promise<void> {
    const { store, keys } = this.#engine.options;
    const conditions = [{ exists: keys.network(networkId) }];
    const result = await transact(store, { conditions, writes });
    if (!result.committed) {
      throw new NotFoundError(`Network ${networkId} was deleted meanwhile; try again`, {
        network_id: networkId,
      });
    }
    this.#engine.mirror.applyCommit(writes, result.revision);
  }

  async #delete(writes: readonly Write[]): Promise<void> {
    const result = await transact(this.#engine.options.store, { conditions: [], writes });
    this.#engine.mirror.applyCommit(writes, result.revision);
  }

  #record(dockerNetworkId: string, networkId: NetworkId, options: BindingOptions): BindingRecord {
    return {
      network_id: networkId,
      hostname: this.#engine.options.host.name,
      docker_network_id: dockerNetworkId,
      ipam: options.ipam,
      internal: options.internal,
      egress: options.egress,
      aux_addresses: options.auxAddresses,
      ...(options.inherited ? { inherited: true } : {}),
    };
  }
}
