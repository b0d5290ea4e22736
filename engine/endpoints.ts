/** The endpoints of this host: an address and a record in one transaction, an interface in the kernel. */
import { randomUUID } from 'node:crypto';
import type { Addresses } from '../ipam/addresses.js';
import {
  type AddressChange,
  addressTaken,
  networkGone,
  type OwnerCheck,
  type Step,
} from '../ipam/changes.js';
import { describeError, NotFoundError, UnavailableError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import { dataPlaneOf, type EndpointRecord, type Network } from '../model/records.js';
import {
  addressOf,
  type EndpointId,
  type IfName,
  type IpAddress,
  type NetnsPath,
  type NetworkId,
} from '../model/scalars.js';
import type { BarePort } from '../overlay/types.js';
import type { StoreClient } from '../store/client.js';
import type { Keys } from '../store/keys.js';
import { transact, type Write } from '../store/transaction.js';
import { refuseWhileDraining } from './draining.js';
import {
  barePort,
  creationWrites,
  deletionWrites,
  type EndpointWish,
  endpointRecord,
  recordWrites,
} from './endpoint-record.js';
import type { HostSettings } from './host.js';
import type { Journal } from './journal.js';
import type { Mirror } from './mirror.js';
import type { Networks } from './networks.js';
import type { Reconciler } from './reconcile.js';
import { ownReservation } from './reservations.js';
import { Sandboxes } from './sandboxes.js';
import { portOf } from './wanted.js';

export interface EndpointsDependencies {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly mirror: Mirror;
  readonly addresses: Addresses;
  readonly networks: Networks;
  readonly reconciler: Reconciler;
  readonly journal: Journal;
  readonly host: HostSettings;
  readonly log: Logger;
}

export interface EndpointRemoval {
  readonly address?: 'kept' | 'returned';
}

export class Endpoints implements AsyncDisposable {
  readonly #deps: EndpointsDependencies;
  readonly #sandboxes: Sandboxes;
  /** Transactions of endpoints under way. */
  #commits = 0;

  constructor(deps: EndpointsDependencies) {
    const { mirror, log } = deps;
    this.#deps = deps;
    this.#sandboxes = new Sandboxes({ mirror, log, write: record => this.rewrite(record) });
  }

  /**
   * Writes the endpoint with its address; a repeated call answers what the first one made. Its interface is `plug`'s.
   * @param options `plugFollows`: what can be made of the interface meanwhile, is
   * @throws NotFoundError: the network. InvalidError: the address is outside its range. ConflictError: the address is taken,
   * or this host is drained. ExhaustedError. UnavailableError.
   */
  async create(wish: EndpointWish, { plugFollows = false } = {}): Promise<EndpointRecord> {
    const { mirror, networks, host, keys } = this.#deps;
    const { id, networkId } = wish;
    const existing = mirror.localEndpoint(id);
    if (existing) return existing;
    refuseWhileDraining(mirror, host);
    const network = await networks.get(networkId);
    const record = (address: IpAddress) => endpointRecord(host, network.record, wish, address);
    const begun = plugFollows ? this.#beginPort(network, wish) : undefined;
    const address = await this.#commit({
      networkId,
      op: randomUUID(),
      step: this.#addressStep(wish),
      endpoints: 1,
      writes: got => creationWrites(keys, record(got)),
    }).catch(async error => {
      // It may have been carried out all the same; whoever asked forgets the endpoint with this error.
      try {
        if (error instanceof UnavailableError) this.#deps.journal.add({ kind: 'endpoint', endpoint_id: id });
      } finally {
        if (begun) await this.#giveUp(networkId, begun);
      }
      throw error;
    });
    const made = mirror.localEndpoint(id) ?? record(address);
    this.#deps.log.info('endpoint created', { endpoint_id: id, network_id: networkId, address });
    return made;
  }

  async #commit(change: AddressChange): Promise<IpAddress> {
    this.#commits += 1;
    try {
      return await this.#deps.addresses.commit(change);
    } finally {
      this.#commits -= 1;
    }
  }

  /** Of a lone caller: who comes together shares the kernel's work, and its thread has no time to spare. */
  #beginPort(network: Network, wish: EndpointWish): BarePort | undefined {
    if (this.#commits > 0 || dataPlaneOf(network) === 'macvlan') return undefined;
    const port = barePort(wish);
    if (port) this.#deps.reconciler.makeBare(network, port);
    return port;
  }

  /** Not what another call for the same endpoint has begun. */
  async #giveUp(networkId: NetworkId, port: BarePort): Promise<void> {
    const { reconciler } = this.#deps;
    if (!reconciler.bare.has(port)) return;
    await this.#unplug(networkId, port);
    reconciler.ports.left(port.endpointId);
  }

  /** Our IPAM driver has reserved the address before; anybody else takes one. */
  #addressStep({ id, networkId, address, purpose }: EndpointWish): Step {
    const owner = { kind: 'endpoint', endpoint_id: id } as const;
    if (purpose.kind === 'docker' && purpose.source === 'sand-ipam' && address) {
      return { kind: 'pass', address, from: ownReservation(this.#deps.host.name, networkId), owner };
    }
    return { kind: 'take', address: address ?? 'lowest', owner };
  }

  /**
   * Makes the interface of an endpoint, and its network when it is the first here; answers the interface's name.
   * @throws NotFoundError: the endpoint or its network was removed meanwhile. ConflictError. ExhaustedError. UnavailableError:
   * etcd was restored a moment ago. KernelError.
   */
  async plug(record: EndpointRecord): Promise<IfName> {
    const { mirror, networks, reconciler } = this.#deps;
    // Without a wait it is in the queue before whoever made the record can ask for its removal, which has to come after.
    const network = mirror.network(record.network_id) ?? (await networks.get(record.network_id));
    try {
      const ifName = await reconciler.join(network, portOf(record));
      reconciler.ports.joined(record.network_id, record.id);
      return ifName;
    } catch (error) {
      // Whoever removes it may not have come through with etcd yet.
      const isRemoved = reconciler.ports.isLeaving(record.id);
      await this.#unplugRecord(record);
      reconciler.ports.left(record.id);
      throw this.#removal(record, isRemoved) ?? error;
    }
  }

  /** Who removes an endpoint, or its network, takes the ground away under whoever makes its interface. */
  #removal({ id, network_id }: EndpointRecord, isRemoved: boolean): NotFoundError | undefined {
    const { mirror } = this.#deps;
    if (!mirror.network(network_id)) return networkGone(network_id);
    if (mirror.localEndpoint(id) && !isRemoved) return undefined;
    return new NotFoundError(`Endpoint ${id} was removed while its interface was made`, { endpoint_id: id });
  }

  /** Docker has said where its container's namespace is. */
  placed(id: EndpointId, sandbox: NetnsPath): void {
    this.#sandboxes.note(id, sandbox);
  }

  /** The namespace of an endpoint's container, which the record of Docker's gets a moment after the container. */
  targetNetnsOf({ id, target_netns_path }: EndpointRecord): NetnsPath | undefined {
    return this.#sandboxes.pathOf(id) ?? ((target_netns_path as NetnsPath) || undefined);
  }

  #unplugRecord(record: EndpointRecord): Promise<void> {
    const target_netns_path = this.targetNetnsOf(record) ?? '';
    return this.#unplug(record.network_id, portOf({ ...record, target_netns_path }));
  }

  /** What is left behind is a stranger to the next reconcile. */
  async #unplug(networkId: NetworkId, port: BarePort): Promise<void> {
    const { reconciler, log } = this.#deps;
    await reconciler.unplug(networkId, port).catch(error => {
      log.warn('interface left behind, the reconcile removes it', {
        endpoint_id: port.endpointId,
        err: describeError(error),
      });
    });
  }

  /** After this host's VTEP address has changed its records say so, and others send there. @throws UnavailableError. */
  async followVtep(): Promise<void> {
    const { mirror, host, log } = this.#deps;
    for (const record of mirror.localEndpoints()) {
      if (record.host_ip === host.vtep) continue;
      await this.rewrite({ ...record, host_ip: host.vtep });
      log.info('endpoint follows the VTEP address', { endpoint_id: record.id, was: record.host_ip });
    }
  }

  /** Writes a changed record, if the endpoint still exists. */
  async rewrite(record: EndpointRecord): Promise<void> {
    const { store, keys, mirror } = this.#deps;
    const writes = recordWrites(keys, record);
    const exists = keys.networkEndpoint(record.network_id, record.id);
    const result = await transact(store, { conditions: [{ exists }], writes });
    if (result.committed) mirror.applyCommit(writes, result.revision);
  }

  /** An interface could not get the name that its record says. */
  async renamed(id: EndpointId, ifName: IfName): Promise<void> {
    const record = this.#deps.mirror.localEndpoint(id);
    if (record) await this.rewrite({ ...record, target_veth_name: ifName });
  }

  /** `address`: a reservation until Docker returns it, when it is Docker's (the default), or free at once. */
  async remove(id: EndpointId, { address = 'kept' }: EndpointRemoval = {}): Promise<void> {
    const { mirror, reconciler, journal, log } = this.#deps;
    const record = mirror.localEndpoint(id);
    if (!record) {
      // Without a first snapshot nobody can say that it does not exist.
      if (mirror.revision === 0) journal.add({ kind: 'endpoint', endpoint_id: id });
      reconciler.ports.left(id);
      return;
    }
    reconciler.ports.leave(id);
    const [, deleted] = await Promise.allSettled([
      this.#unplugRecord(record),
      journal.orKeep({ kind: 'endpoint', endpoint_id: id }, () => this.#delete(record, address)),
    ]);
    reconciler.ports.left(id);
    if (deleted.status === 'rejected') throw deleted.reason;
    log.info('endpoint removed', { endpoint_id: id, network_id: record.network_id });
  }

  /** Docker's IPAM calls return an address later, by a call of their own: until then it is a reservation. */
  async #delete(record: EndpointRecord, then: 'kept' | 'returned'): Promise<void> {
    const { keys } = this.#deps;
    const address = addressOf(record.target_veth_ip);
    const ours: OwnerCheck = owner =>
      owner && owner.endpoint_id !== record.id ? addressTaken(address, record.network_id, owner) : undefined;
    const keep = then === 'kept' && record.docker?.address_source === 'sand-ipam';
    await this.#commit({
      networkId: record.network_id,
      op: randomUUID(),
      step: keep
        ? { kind: 'pass', address, from: ours, owner: { kind: 'reservation' } }
        : { kind: 'free', address, from: ours, record: keys.networkEndpoint(record.network_id, record.id) },
      endpoints: -1,
      writes: () => deletionWrites(keys, record),
    });
  }

  /** Writes that follow from this host's number of endpoints in a network changing by `delta`. */
  presence(networkId: NetworkId, delta: number): Write[] {
    const { keys, mirror, host } = this.#deps;
    const before = mirror.localCount(networkId);
    const node = keys.nodeNetwork(host.name, networkId);
    const network = keys.networkNode(networkId, host.name);
    if (before + delta <= 0) return [{ delete: node }, { delete: network }];
    if (before > 0) return [];
    const value = { id: networkId, created_at: new Date().toISOString() };
    return [
      { put: node, value },
      { put: network, value },
    ];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sandboxes[Symbol.asyncDispose]();
  }
}
