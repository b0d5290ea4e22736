/** The endpoints of this host: an address and a record in one transaction, an interface in the kernel. */
import { randomUUID } from 'node:crypto';
import type { Addresses } from '../ipam/addresses.js';
import { addressTaken, type OwnerCheck } from '../ipam/changes.js';
import { macFor, parseRange, withPrefix } from '../ipam/range.js';
import { ConflictError, describeError, NotFoundError, UnavailableError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import type { AddressSource, EndpointRecord, Network } from '../model/records.js';
import {
  addressOf,
  type EndpointId,
  type IfName,
  type InterfaceAddress,
  type IpAddress,
  type MacAddress,
  type NetnsPath,
  type NetworkId,
} from '../model/scalars.js';
import type { StoreClient } from '../store/client.js';
import type { Keys } from '../store/keys.js';
import { transact, type Write } from '../store/transaction.js';
import { endpointIdOf, type HostSettings, overlayVethOf, targetVethOf } from './host.js';
import type { Journal } from './journal.js';
import type { Mirror } from './mirror.js';
import type { Networks } from './networks.js';
import type { Reconciler } from './reconcile.js';
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

export interface DockerEndpoint {
  readonly dockerEndpointId: string;
  readonly dockerNetworkId: string;
  readonly networkId: NetworkId;
  readonly source: AddressSource;
  /** Given by Docker; with `sand-driver` none is, and the lowest free one is taken. */
  readonly address: IpAddress | undefined;
  readonly mac: MacAddress | undefined;
}

export class Endpoints {
  readonly #deps: EndpointsDependencies;

  constructor(deps: EndpointsDependencies) {
    this.#deps = deps;
  }

  /**
   * Reserves an address for an endpoint that this host is about to make.
   * @throws ConflictError: taken. ExhaustedError. InvalidError: outside the range.
   */
  async reserve(network: Network, address: IpAddress | 'lowest'): Promise<InterfaceAddress> {
    const { id, ip_range } = network.record;
    const got = await this.#deps.addresses.commit({
      networkId: id,
      op: randomUUID(),
      step: { kind: 'take', address, owner: { kind: 'reservation' } },
      endpoints: 0,
      writes: () => [],
    });
    return withPrefix(parseRange(ip_range), got);
  }

  /** Returns a reservation of this host that no endpoint bears; anything else stays as it is. */
  async release(networkId: NetworkId, address: IpAddress): Promise<void> {
    const { addresses, mirror, journal } = this.#deps;
    const reservationOnly: OwnerCheck = owner => {
      const ours = owner?.kind === 'reservation' && owner.hostname === this.#deps.host.name;
      const aux = owner?.kind === 'aux' && !this.#isAux(networkId, address);
      const free = (ours || aux) && !mirror.bearerOf(networkId, address);
      return free ? undefined : addressTaken(address, networkId, owner);
    };
    const change = {
      networkId,
      op: randomUUID(),
      step: { kind: 'free', address, from: reservationOnly },
      endpoints: 0,
      writes: () => [],
    } as const;
    await this.#orJournal(
      () => addresses.commit(change),
      () => journal.add({ kind: 'address', network_id: networkId, address }),
    );
  }

  #isAux(networkId: NetworkId, address: IpAddress): boolean {
    return this.#deps.mirror.bindings(networkId).some(({ aux_addresses }) => aux_addresses.includes(address));
  }

  /** Addresses that Docker's user set aside stay taken as long as a binding lists them. */
  async keepAux(network: Network, aux: readonly IpAddress[]): Promise<void> {
    const { addresses, host } = this.#deps;
    const from: OwnerCheck = (owner, address) =>
      owner?.kind === 'reservation' && owner.hostname === host.name
        ? undefined
        : addressTaken(address, network.record.id, owner);
    for (const address of aux) {
      const owner = { kind: 'aux' } as const;
      const { id } = network.record;
      await addresses
        .commit({
          networkId: id,
          op: randomUUID(),
          step: { kind: 'pass', address, from, owner },
          endpoints: 0,
          writes: () => [],
        })
        .catch(error => {
          if (!(error instanceof ConflictError && error.facts['owner'] === 'aux')) throw error;
        });
    }
  }

  /** Makes the endpoint of a container; a repeated call answers what the first one made. */
  async create(wish: DockerEndpoint): Promise<EndpointRecord> {
    const { mirror, networks, addresses } = this.#deps;
    const id = endpointIdOf(wish.dockerEndpointId);
    const existing = mirror.localEndpoint(id);
    if (existing) return existing;
    const network = await networks.get(wish.networkId);
    const record = (address: IpAddress) => this.#record(id, network, address, wish);
    const owner = { kind: 'endpoint', endpoint_id: id } as const;
    const step =
      wish.source === 'sand-ipam' && wish.address
        ? ({ kind: 'pass', address: wish.address, from: this.#ownReservation(network), owner } as const)
        : ({ kind: 'take', address: wish.address ?? 'lowest', owner } as const);
    const address = await addresses.commit({
      networkId: wish.networkId,
      op: randomUUID(),
      step,
      endpoints: 1,
      writes: got => this.#endpointWrites(record(got), wish),
    });
    const made = mirror.localEndpoint(id) ?? record(address);
    this.#deps.log.info('endpoint created', { endpoint_id: id, network_id: wish.networkId, address });
    return made;
  }

  #ownReservation(network: Network): OwnerCheck {
    const { host } = this.#deps;
    return (owner, address) => {
      if (owner?.kind === 'reservation' && owner.hostname === host.name) return undefined;
      if (owner) return addressTaken(address, network.record.id, owner);
      return new ConflictError(
        `Address ${address} of network ${network.record.id} is not reserved by this host; request it first`,
        { network_id: network.record.id, address },
      );
    };
  }

  #record(id: EndpointId, network: Network, address: IpAddress, wish: DockerEndpoint): EndpointRecord {
    const { host } = this.#deps;
    return {
      id,
      network_id: wish.networkId,
      hostname: host.name,
      host_ip: host.vtep,
      api_hostname: host.apiHostname,
      created_at: new Date().toISOString(),
      target_netns_path: '',
      overlay_veth_name: overlayVethOf(id),
      overlay_veth_mac: '',
      target_veth_name: targetVethOf(id),
      target_veth_mac: wish.mac ?? macFor(address),
      target_veth_ip: withPrefix(parseRange(network.record.ip_range), address),
      active: false,
      docker: {
        endpoint_id: wish.dockerEndpointId,
        network_id: wish.dockerNetworkId,
        address_source: wish.source,
      },
    };
  }

  #endpointWrites(record: EndpointRecord, wish: DockerEndpoint): Write[] {
    const { keys } = this.#deps;
    const docker = {
      DockerNetworkID: wish.dockerNetworkId,
      SandNetworkID: record.network_id,
      DockerEndpointID: wish.dockerEndpointId,
      SandEndpointID: record.id,
    };
    return [
      ...this.#recordWrites(record),
      { put: keys.dockerEndpoint(wish.dockerEndpointId), value: docker },
    ];
  }

  #recordWrites(record: EndpointRecord): Write[] {
    const { keys } = this.#deps;
    return [
      { put: keys.networkEndpoint(record.network_id, record.id), value: record },
      { put: keys.nodeEndpoint(record.hostname, record.id), value: record },
    ];
  }

  /**
   * Makes the interface of an endpoint, for Docker to move. The record and the kernel are written side by side.
   * @throws NotFoundError, ConflictError: the underlay is too small. KernelError.
   */
  async join(dockerEndpointId: string, sandbox: NetnsPath): Promise<IfName> {
    const { mirror, networks, reconciler, log } = this.#deps;
    const id = endpointIdOf(dockerEndpointId);
    const found = mirror.localEndpoint(id);
    if (!found) {
      throw new NotFoundError(`Endpoint ${dockerEndpointId} does not exist on this host`, {
        endpoint_id: id,
      });
    }
    const network = await networks.get(found.network_id);
    const record = { ...found, active: true, target_netns_path: sandbox };
    const [plugged, written] = await Promise.allSettled([
      reconciler.join(network, portOf(record)),
      this.#activate(record),
    ]);
    if (plugged.status === 'fulfilled' && written.status === 'fulfilled') {
      reconciler.joined(found.network_id, id);
      log.info('endpoint joined', { endpoint_id: id, network_id: found.network_id, sandbox });
      return plugged.value;
    }
    await this.#undoJoin(found);
    throw plugged.status === 'rejected' ? plugged.reason : (written as PromiseRejectedResult).reason;
  }

  async #activate(record: EndpointRecord): Promise<void> {
    const { store, keys, mirror } = this.#deps;
    const writes = this.#recordWrites(record);
    const exists = keys.networkEndpoint(record.network_id, record.id);
    const result = await transact(store, { conditions: [{ exists }], writes });
    if (!result.committed) {
      throw new NotFoundError(`Endpoint ${record.id} was deleted meanwhile`, { endpoint_id: record.id });
    }
    mirror.applyCommit(writes, result.revision);
  }

  async #undoJoin(record: EndpointRecord): Promise<void> {
    const { reconciler, log, mirror } = this.#deps;
    await reconciler.unplug(record.network_id, portOf(record)).catch(error => {
      log.warn('interface left behind, the reconcile removes it', {
        endpoint_id: record.id,
        err: describeError(error),
      });
    });
    if (mirror.localEndpoint(record.id)?.active)
      await this.#activate({ ...record, active: false }).catch(() => undefined);
    reconciler.left(record.id);
  }

  /** The container has left; its endpoint goes with the call that follows. */
  leave(dockerEndpointId: string): void {
    this.#deps.reconciler.leave(endpointIdOf(dockerEndpointId));
  }

  /** Removes an endpoint of this host. Unknown ones are gone already. Answered while etcd is away, too. */
  async removeDocker(dockerEndpointId: string): Promise<void> {
    await this.remove(endpointIdOf(dockerEndpointId));
  }

  async remove(id: EndpointId): Promise<void> {
    const { mirror, reconciler, journal, log } = this.#deps;
    const record = mirror.localEndpoint(id);
    if (!record) {
      // Without a first snapshot nobody can say that it does not exist.
      if (mirror.revision === 0) journal.add({ kind: 'endpoint', endpoint_id: id });
      reconciler.left(id);
      return;
    }
    reconciler.leave(id);
    const [unplugged, deleted] = await Promise.allSettled([
      reconciler.unplug(record.network_id, portOf(record)),
      this.#orJournal(
        () => this.#delete(record),
        () => journal.add({ kind: 'endpoint', endpoint_id: id }),
      ),
    ]);
    reconciler.left(id);
    if (unplugged.status === 'rejected') {
      log.warn('interface left behind, the reconcile removes it', {
        endpoint_id: id,
        err: describeError(unplugged.reason),
      });
    }
    if (deleted.status === 'rejected') throw deleted.reason;
    log.info('endpoint removed', { endpoint_id: id, network_id: record.network_id });
  }

  /** Docker's IPAM calls return an address later, by a call of their own: until then it is a reservation. */
  async #delete(record: EndpointRecord): Promise<void> {
    const { addresses, keys, host } = this.#deps;
    const address = addressOf(record.target_veth_ip);
    const writes: Write[] = [
      { delete: keys.networkEndpoint(record.network_id, record.id) },
      { delete: keys.nodeEndpoint(host.name, record.id) },
      ...(record.docker ? [{ delete: keys.dockerEndpoint(record.docker.endpoint_id) }] : []),
    ];
    const ours: OwnerCheck = owner =>
      owner && owner.endpoint_id !== record.id ? addressTaken(address, record.network_id, owner) : undefined;
    const keep = record.docker?.address_source === 'sand-ipam';
    await addresses.commit({
      networkId: record.network_id,
      op: randomUUID(),
      step: keep
        ? { kind: 'pass', address, from: ours, owner: { kind: 'reservation' } }
        : { kind: 'free', address, from: ours },
      endpoints: -1,
      writes: () => writes,
    });
  }

  async #orJournal(work: () => Promise<unknown>, journal: () => void): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (error instanceof NotFoundError) return;
      if (!(error instanceof UnavailableError)) throw error;
      journal();
      this.#deps.log.warn('teardown kept for when etcd is back', { err: describeError(error) });
    }
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
}
