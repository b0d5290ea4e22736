/**
 * Giving away what a host held, once an operator has said that its machine is off: endpoints with their addresses,
 * reservations, spares, bindings, and its presence in networks. Each step is a transaction of its own that leaves
 * nothing half done; after a crash the same call goes on where it ended.
 */
import { randomUUID } from 'node:crypto';
import * as z from 'zod';
import type { Addresses } from '../ipam/addresses.js';
import { addressTaken, type FreeStep, type OwnerCheck } from '../ipam/changes.js';
import { ConflictError, NotFoundError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import { AddressOwner, EndpointRecord } from '../model/records.js';
import {
  addressOf,
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
import { readPrefix, transact, type Write } from '../store/transaction.js';
import { deletionWrites } from './endpoint-record.js';
import type { Mirror } from './mirror.js';

const WRITES_MAX = 100; // chosen: under etcd's 128, with room for conditions
const AT_ONCE = 28; // chosen: as many as share one transaction of a pool

export interface HostRemovalDependencies {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly mirror: Mirror;
  readonly addresses: Addresses;
  readonly log: Logger;
}

export interface GivenAway {
  readonly endpoints: number;
  readonly reservations: number;
  readonly bindings: number;
}

interface Reserved {
  readonly networkId: NetworkId;
  readonly address: IpAddress;
  readonly owner: AddressOwner;
}

function placeOf({ key }: KeyValue) {
  const [address, network] = key.split('/').reverse();
  return { networkId: parseNetworkId(network), address: parseIpAddress(address) };
}

/** What is needed of `docker-endpoints/<id>`, by whichever agent. */
const DockerEndpoint = z.object({ SandEndpointID: z.string() });

export class HostRemoval {
  readonly #deps: HostRemovalDependencies;

  constructor(deps: HostRemovalDependencies) {
    this.#deps = deps;
  }

  /** @param network only what it held there. @throws ConflictError: the host is back. UnavailableError. */
  async giveAway(hostname: HostName, network?: NetworkId): Promise<GivenAway> {
    const endpoints = await this.#endpointsOf(hostname, network);
    await this.#inGroups(hostname, endpoints, ({ record, also }) => this.#removeEndpoint(record, also));
    const owners = await this.#reservationsOf(hostname, network);
    await this.#inGroups(hostname, owners, owner => this.#free(owner));
    await this.#returnSpares(hostname, network);
    const bindings = this.#bindingWrites(hostname, network);
    await this.#deleteAll(hostname, [...bindings, ...(await this.#presenceWrites(hostname, network))]);
    return {
      endpoints: endpoints.length,
      reservations: owners.length,
      bindings: bindings.length / 2,
    };
  }

  /** A host that came back between two groups keeps what is left. */
  async #inGroups<T>(hostname: HostName, items: readonly T[], work: (item: T) => Promise<unknown>) {
    for (let at = 0; at < items.length; at += AT_ONCE) {
      this.#requireGone(hostname);
      await Promise.all(items.slice(at, at + AT_ONCE).map(work));
    }
  }

  #requireGone(hostname: HostName): void {
    if (!this.#deps.mirror.hosts.isLiving(hostname)) return;
    throw new ConflictError(
      `Host ${hostname} has come back meanwhile and keeps what was not given away yet`,
      {
        hostname,
      },
    );
  }

  async #endpointsOf(hostname: HostName, network: NetworkId | undefined) {
    const { store, keys } = this.#deps;
    const { entries } = await readSnapshot(store, keys.nodeEndpoints(hostname));
    const records = entries.map(entry => parseRecord(EndpointRecord, entry));
    const wanted = records.filter(record => !network || record.network_id === network);
    if (wanted.length === 0) return [];
    const docker = await this.#dockerKeys();
    return wanted.map(record => ({ record, also: docker.get(record.id) ?? [] }));
  }

  /** By our endpoint's id: in records of the original nothing says that Docker has the endpoint. */
  async #dockerKeys(): Promise<ReadonlyMap<string, string[]>> {
    const { store, keys } = this.#deps;
    const found = new Map<string, string[]>();
    for (const entry of (await readSnapshot(store, keys.dockerEndpoints)).entries) {
      const parsed = DockerEndpoint.safeParse(JSON.parse(entry.value));
      if (!parsed.success) continue;
      const { SandEndpointID: id } = parsed.data;
      found.set(id, [...(found.get(id) ?? []), entry.key]);
    }
    return found;
  }

  /** The owner is compared, and the address stays with whoever else has it. */
  async #removeEndpoint(record: EndpointRecord, also: readonly string[]): Promise<void> {
    const { keys } = this.#deps;
    const { id, network_id: networkId } = record;
    const address = addressOf(record.target_veth_ip);
    const from: OwnerCheck = owner =>
      owner && owner.endpoint_id !== id ? addressTaken(address, networkId, owner) : undefined;
    const records = deletionWrites(keys, { ...record, docker: undefined });
    const writes = [...records, ...also.map(key => ({ delete: key }))];
    const step = { kind: 'free', address, from, record: keys.networkEndpoint(networkId, id) } as const;
    await this.#commitFree(networkId, step, writes);
  }

  async #reservationsOf(hostname: HostName, network: NetworkId | undefined) {
    const { store, keys } = this.#deps;
    const prefix = network ? keys.addressOwners(network) : keys.allAddressOwners;
    const { entries } = await readSnapshot(store, prefix);
    return entries
      .map(entry => ({ ...placeOf(entry), owner: parseRecord(AddressOwner, entry) }))
      .filter(held =>
        held.owner.kind === 'aux' ? this.#setAside(hostname, held) : held.owner.hostname === hostname,
      );
  }

  /** Whether nobody but this host lists an aux address. */
  #setAside(hostname: HostName, { networkId, address, owner }: Reserved): boolean {
    const listing = this.#deps.mirror
      .bindings(networkId)
      .filter(({ aux_addresses }) => aux_addresses.includes(address));
    if (listing.length === 0) return owner.hostname === hostname;
    return listing.every(binding => binding.hostname === hostname);
  }

  async #free({ networkId, address, owner }: Reserved): Promise<void> {
    const from: OwnerCheck = found =>
      found?.op === owner.op ? undefined : addressTaken(address, networkId, found);
    await this.#commitFree(networkId, { kind: 'free', address, from }, []);
  }

  async #commitFree(networkId: NetworkId, step: FreeStep, writes: readonly Write[]): Promise<void> {
    await this.#deps.addresses
      .commit({ networkId, op: randomUUID(), step, endpoints: 0, writes: () => writes })
      .catch(error => {
        if (!(error instanceof NotFoundError)) throw error;
      });
  }

  async #returnSpares(hostname: HostName, network: NetworkId | undefined): Promise<void> {
    const { addresses, mirror, store, keys } = this.#deps;
    for (const id of network ? [network] : mirror.networks().map(({ record }) => record.id)) {
      const spares = await readPrefix(store, keys.addressSpare(id, hostname));
      if (spares.some(({ key }) => key === keys.addressSpare(id, hostname))) {
        await addresses.returnSparesOf(hostname, id);
      }
    }
  }

  #bindingWrites(hostname: HostName, network: NetworkId | undefined): Write[] {
    const { mirror, keys } = this.#deps;
    const networks = network ? [network] : mirror.networks().map(({ record }) => record.id);
    return networks
      .flatMap(id => mirror.bindings(id))
      .filter(binding => binding.hostname === hostname)
      .flatMap(({ network_id, docker_network_id }) => [
        { delete: keys.binding(network_id, hostname, docker_network_id) },
        { delete: keys.dockerNetwork(docker_network_id) },
      ]);
  }

  /** In both of its orders, whichever of them stands. */
  async #presenceWrites(hostname: HostName, network: NetworkId | undefined): Promise<Write[]> {
    const { store, keys, mirror } = this.#deps;
    const prefix = keys.nodeNetworks(hostname);
    const set = (await readPrefix(store, prefix)).map(({ key }) => parseNetworkId(key.slice(prefix.length)));
    const known = mirror.networks().map(({ record }) => record.id);
    const networks = network ? [network] : [...new Set([...set, ...known])];
    return networks.flatMap(id => [
      { delete: keys.nodeNetwork(hostname, id) },
      { delete: keys.networkNode(id, hostname) },
    ]);
  }

  async #deleteAll(hostname: HostName, writes: readonly Write[]): Promise<void> {
    const { store, mirror } = this.#deps;
    for (let at = 0; at < writes.length; at += WRITES_MAX) {
      this.#requireGone(hostname);
      const some = writes.slice(at, at + WRITES_MAX);
      const result = await transact(store, { conditions: [], writes: some });
      mirror.applyCommit(some, result.revision);
    }
  }
}
