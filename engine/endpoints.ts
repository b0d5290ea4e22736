/** The endpoints of this host: an address and a record in one transaction, an interface in the kernel. */
import { randomUUID } from 'node:crypto';
import type { Addresses } from '../ipam/addresses.js';
import { addressTaken, type OwnerCheck } from '../ipam/changes.js';
import { macFor, parseRange, withPrefix } from '../ipam/range.js';
import { describeError, NotFoundError, UnavailableError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import type { AddressSource, EndpointRecord, Network } from '../model/records.js';
import {
  addressOf,
  type EndpointId,
  type IfName,
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

export interface DockerEndpoint {
  readonly dockerEndpointId: string;
  readonly dockerNetworkId: string;
  readonly networkId: NetworkId;
  readonly source: AddressSource;
  /** Given by Docker; with `sand-driver` none is, and the lowest free one is taken. */
  readonly address: IpAddress | undefined;
  readonly mac: MacAddress | undefined;
}

export class Endpoints implements AsyncDisposable {
  readonly #deps: EndpointsDependencies;
  readonly #sandboxes: Sandboxes;

  constructor(deps: EndpointsDependencies) {
    const { mirror, log } = deps;
    this.#deps = deps;
    this.#sandboxes = new Sandboxes({ mirror, log, write: record => this.#rewrite(record) });
  }

  /** Makes the endpoint of a container; a repeated call answers what the first one made. */
  async create(wish: DockerEndpoint): Promise<EndpointRecord> {
    const { mirror, networks, addresses, journal, host } = this.#deps;
    const id = endpointIdOf(wish.dockerEndpointId);
    const existing = mirror.localEndpoint(id);
    if (existing) return existing;
    const network = await networks.get(wish.networkId);
    const record = (address: IpAddress) => this.#record(id, network, address, wish);
    const owner = { kind: 'endpoint', endpoint_id: id } as const;
    const step =
      wish.source === 'sand-ipam' && wish.address
        ? ({
            kind: 'pass',
            address: wish.address,
            from: ownReservation(host.name, wish.networkId),
            owner,
          } as const)
        : ({ kind: 'take', address: wish.address ?? 'lowest', owner } as const);
    const change = {
      networkId: wish.networkId,
      op: randomUUID(),
      step,
      endpoints: 1,
      writes: (got: IpAddress) => this.#endpointWrites(record(got), wish),
    } as const;
    const address = await addresses.commit(change).catch(error => {
      // It may have been carried out all the same; Docker forgets the endpoint with this error.
      if (error instanceof UnavailableError) journal.add({ kind: 'endpoint', endpoint_id: id });
      throw error;
    });
    const made = mirror.localEndpoint(id) ?? record(address);
    this.#deps.log.info('endpoint created', { endpoint_id: id, network_id: wish.networkId, address });
    return made;
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
      active: true,
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
   * Makes the interface of an endpoint, for Docker to move: the kernel's work alone, since the record has said since
   * its creation that there is to be one.
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
    try {
      const ifName = await reconciler.join(network, portOf(found));
      reconciler.ports.joined(found.network_id, id);
      this.#sandboxes.note(id, sandbox);
      log.info('endpoint joined', { endpoint_id: id, network_id: found.network_id, sandbox });
      return ifName;
    } catch (error) {
      await this.#unplug(found);
      reconciler.ports.left(id);
      throw error;
    }
  }

  /** What is left behind is a stranger to the next reconcile. */
  async #unplug(record: EndpointRecord): Promise<void> {
    const { reconciler, log } = this.#deps;
    await reconciler.unplug(record.network_id, portOf(record)).catch(error => {
      log.warn('interface left behind, the reconcile removes it', {
        endpoint_id: record.id,
        err: describeError(error),
      });
    });
  }

  async #rewrite(record: EndpointRecord): Promise<void> {
    const { store, keys, mirror } = this.#deps;
    const writes = this.#recordWrites(record);
    const exists = keys.networkEndpoint(record.network_id, record.id);
    const result = await transact(store, { conditions: [{ exists }], writes });
    if (result.committed) mirror.applyCommit(writes, result.revision);
  }

  /** The container has left; its endpoint goes with the call that follows. */
  leave(dockerEndpointId: string): void {
    const id = endpointIdOf(dockerEndpointId);
    this.#deps.reconciler.ports.leave(id, overlayVethOf(id));
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
      reconciler.ports.left(id);
      return;
    }
    reconciler.ports.leave(id);
    const [, deleted] = await Promise.allSettled([
      this.#unplug(record),
      journal.orKeep({ kind: 'endpoint', endpoint_id: id }, () => this.#delete(record)),
    ]);
    reconciler.ports.left(id);
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
