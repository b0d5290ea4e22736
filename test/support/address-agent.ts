/** The address side of one host: `Addresses` over a client of its own, with records as small as they may be. */
import { randomUUID } from 'node:crypto';
import { Addresses } from '../../ipam/addresses.js';
import { type AddressChange, addressTaken, type OwnerCheck, type Step } from '../../ipam/changes.js';
import { Pool } from '../../ipam/pool.js';
import { parseGateway, parseRange } from '../../ipam/range.js';
import {
  type HostName,
  type IpAddress,
  type NetworkId,
  newEndpointId,
  newNetworkId,
  parseHostName,
} from '../../model/scalars.js';
import { StoreClient } from '../../store/client.js';
import { Keys } from '../../store/keys.js';
import { transact, type Write } from '../../store/transaction.js';
import { bitsOf } from './bit-set.js';
import type { EtcdCluster } from './etcd.js';
import { LogBook } from './log-book.js';

export class AddressAgent implements AsyncDisposable {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly host: HostName;
  readonly addresses: Addresses;
  /** Address → key of the record that is said to bear it. */
  readonly bearers = new Map<IpAddress, string>();
  readonly commits: { readonly writes: readonly Write[]; readonly revision: number }[] = [];

  constructor(hosts: readonly string[], prefix: string, name: string) {
    this.store = new StoreClient({ hosts });
    this.keys = new Keys(prefix);
    this.host = parseHostName(name);
    this.addresses = new Addresses(this.store, this.keys, {
      host: this.host,
      log: new LogBook(),
      bearer: (_, address) => this.bearers.get(address),
      presence: () => [],
      committed: (writes, revision) => void this.commits.push({ writes, revision }),
    });
  }

  /** As an endpoint takes one: with three records in the same transaction. */
  take(network: NetworkId, address: IpAddress | 'lowest' = 'lowest'): Promise<IpAddress> {
    const endpoint = newEndpointId();
    const record = (key: string) => ({ put: `${this.keys.prefix}/records/${endpoint}/${key}`, value: 1 });
    return this.#commit(
      network,
      { kind: 'take', address, owner: { kind: 'endpoint', endpoint_id: endpoint } },
      { writes: () => ['a', 'b', 'c'].map(record) },
    );
  }

  reserve(network: NetworkId, address: IpAddress | 'lowest' = 'lowest'): Promise<IpAddress> {
    return this.#commit(network, { kind: 'take', address, owner: { kind: 'reservation' } });
  }

  /** From this host's reservation to an endpoint of it. */
  pass(network: NetworkId, address: IpAddress): Promise<IpAddress> {
    const owner = { kind: 'endpoint', endpoint_id: newEndpointId() } as const;
    return this.#commit(network, { kind: 'pass', address, from: this.#own(network), owner });
  }

  /** What this host does not own stays as it is. */
  free(network: NetworkId, address: IpAddress, change: Partial<AddressChange> = {}): Promise<IpAddress> {
    return this.#commit(network, { kind: 'free', address, from: this.#own(network) }, change);
  }

  #own(network: NetworkId): OwnerCheck {
    return (owner, address) =>
      owner?.hostname === this.host ? undefined : addressTaken(address, network, owner);
  }

  #commit(networkId: NetworkId, step: Step, change: Partial<AddressChange> = {}): Promise<IpAddress> {
    const basic = { networkId, op: randomUUID(), step, endpoints: 0, writes: () => [] } as const;
    return this.addresses.commit({ ...basic, ...change });
  }

  /** Gives its spares back. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.addresses[Symbol.asyncDispose]();
    await this.store[Symbol.asyncDispose]();
  }
}

/** A network's record and pool in etcd, as an agent makes them. */
export async function makeNetwork(
  { store, keys }: { readonly store: StoreClient; readonly keys: Keys },
  cidr: string,
): Promise<NetworkId> {
  const id = newNetworkId();
  const range = parseRange(cidr);
  const gateway = parseGateway(range, undefined);
  const record = {
    id,
    created_at: new Date().toISOString(),
    name: id,
    type: 'overlay',
    ns_handle_path: `/var/run/netns/sc-ns-${id}`,
    vxlan_vni: 1,
    ip_range: cidr,
    gateway,
  };
  const writes = [
    { put: keys.network(id), value: record },
    { put: keys.pool(id), value: Pool.fresh(id, range, gateway).toRecord() },
  ];
  await transact(store, { conditions: [{ absent: keys.network(id) }], writes });
  return id;
}

/** What etcd holds of a pool, in the eyes of etcdctl and of a decoder that is not ours. */
export interface StoredPool {
  /** Last numbers count: address number in the range. */
  readonly taken: readonly number[];
  readonly owners: readonly IpAddress[];
  readonly spares: readonly IpAddress[];
}

export async function readPool(etcd: EtcdCluster, keys: Keys, id: NetworkId): Promise<StoredPool> {
  const [pool, owners, spares] = await Promise.all([
    etcd.get(keys.pool(id)),
    etcd.keys(keys.addressOwners(id)),
    etcd.entries(keys.addressSpares(id)),
  ]);
  return {
    taken: [...bitsOf(JSON.parse(pool ?? '{}').bit_set).taken],
    owners: owners.map(key => key.slice(keys.addressOwners(id).length) as IpAddress),
    spares: [...spares.values()].flatMap(value => JSON.parse(value).addresses as IpAddress[]),
  };
}

/** The bits that must be set: both ends, the gateway, and every owner. */
export function bitsFor(cidr: string, owners: readonly IpAddress[]): number[] {
  const { first, size } = parseRange(cidr);
  const number = (address: string) =>
    address.split('.').reduce((sum, byte) => sum * 256 + Number(byte), 0) - first;
  return [...new Set([0, 1, size - 1, ...owners.map(number)])].sort((a, b) => a - b);
}
