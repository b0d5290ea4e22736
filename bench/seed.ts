/** Fills a cluster with networks and endpoints as other hosts would have made them, straight into etcd. */
import { randomUUID } from 'node:crypto';
import { Pool } from '../ipam/pool.js';
import { addressAt, macFor, parseGateway, parseRange } from '../ipam/range.js';
import type { EndpointRecord, NetworkRecord } from '../model/records.js';
import {
  addressOf,
  type Cidr,
  type EndpointId,
  type HostName,
  type IpAddress,
  type NetworkId,
  newEndpointId,
  newNetworkId,
  type Vni,
} from '../model/scalars.js';
import type { StoreClient } from '../store/client.js';
import { transact, type Write } from '../store/transaction.js';
import { KEYS } from './lab.js';

const WRITES_PER_TRANSACTION = 120; // etcd takes 128
const IN_FLIGHT = 8;

export interface SeedNetwork {
  readonly name: string;
  readonly vni: number;
  readonly range?: string;
  /** Addresses that its pool counts as taken, beside the gateway's. */
  readonly taken?: readonly IpAddress[];
}

/** All keys of a network that the API made. */
export function networkWrites({ name, vni, range = '10.0.0.0/24', taken = [] }: SeedNetwork): {
  readonly id: NetworkId;
  readonly writes: Write[];
} {
  const id = newNetworkId();
  const parsed = parseRange(range);
  const gateway = parseGateway(parsed, undefined);
  const pool = Pool.fresh(id, parsed, gateway);
  for (const address of taken) pool.take(address);
  const record: NetworkRecord = {
    id,
    created_at: new Date().toISOString(),
    name,
    type: 'overlay',
    ns_handle_path: `/var/run/netns/sc-ns-${id}`,
    vxlan_vni: vni as Vni,
    ip_range: range as Cidr,
    gateway,
  };
  const writes: Write[] = [
    { put: KEYS.network(id), value: record },
    { put: KEYS.attributes(id), value: { mtu: 1450, origin: 'api' } },
    { put: KEYS.pool(id), value: pool.toRecord() },
    { put: KEYS.vni(vni as Vni), value: { network_id: id } },
    { put: KEYS.name(name), value: { network_id: id } },
  ];
  return { id, writes };
}

export interface SeedEndpoint {
  readonly networkId: NetworkId;
  readonly address: IpAddress;
  readonly prefixLength: number;
  readonly hostname: string;
  readonly vtep: string;
}

/** The record of an endpoint on a host that has no agent here. */
export function endpointRecord(seed: SeedEndpoint): EndpointRecord {
  const { networkId, address, prefixLength, hostname, vtep } = seed;
  const id: EndpointId = newEndpointId();
  return {
    id,
    network_id: networkId,
    hostname: hostname as HostName,
    host_ip: vtep as IpAddress,
    api_hostname: '',
    created_at: new Date().toISOString(),
    target_netns_path: '/run/docker/netns/0123456789ab',
    overlay_veth_name: `sand${id.replaceAll('-', '').slice(0, 11)}`,
    overlay_veth_mac: '',
    target_veth_name: `sandt${id.replaceAll('-', '').slice(0, 10)}`,
    target_veth_mac: macFor(address),
    target_veth_ip: `${address}/${prefixLength}` as EndpointRecord['target_veth_ip'],
    active: true,
  };
}

export function endpointWrites(record: EndpointRecord): Write[] {
  return [
    { put: KEYS.networkEndpoint(record.network_id, record.id), value: record },
    { put: KEYS.nodeEndpoint(record.hostname, record.id), value: record },
  ];
}

export function ownerWrite({ id, network_id, hostname, target_veth_ip }: EndpointRecord): Write {
  const value = { kind: 'endpoint', endpoint_id: id, hostname, op: randomUUID(), at: Date.now() };
  return { put: KEYS.addressOwner(network_id, addressOf(target_veth_ip)), value };
}

const OTHER_HOSTS = 50;

/** Writes a network with that many endpoints on hosts that have no agent here; answers its id. */
export async function populate(
  store: StoreClient,
  { endpoints, range = '10.0.0.0/24', ...network }: SeedNetwork & { readonly endpoints: number },
): Promise<NetworkId> {
  const addresses = addressesOf(range, endpoints);
  const { id, writes } = networkWrites({ ...network, range, taken: addresses });
  const prefixLength = Number(range.split('/')[1]);
  const records = addresses.map((address, index) => {
    const number = 1 + (index % OTHER_HOSTS);
    return endpointRecord({
      ...{ networkId: id, address, prefixLength },
      ...{ hostname: `other-${number}`, vtep: `10.79.1.${number}` },
    });
  });
  await seed(store, [...writes, ...records.flatMap(each => [...endpointWrites(each), ownerWrite(each)])]);
  return id;
}

/** What takes these writes back. */
export const deletionsOf = (writes: readonly Write[]): Write[] =>
  writes.flatMap(write => ('put' in write ? [{ delete: write.put }] : []));

/** Writes networks without endpoints, each with the same range; answers what it wrote. */
export async function seedNetworks(store: StoreClient, count: number, firstVni: number): Promise<Write[]> {
  const made = Array.from({ length: count }, (_, index) =>
    networkWrites({ name: `other-${firstVni + index}`, vni: firstVni + index }),
  );
  const all = made.flatMap(({ writes }) => writes);
  await seed(store, all);
  return all;
}

/** The addresses of a range from its second host on. */
export function addressesOf(range: string, count: number): IpAddress[] {
  const parsed = parseRange(range);
  return Array.from({ length: count }, (_, index) => addressAt(parsed, index + 2));
}

/** Writes all, some transactions at once. */
export async function seed(store: StoreClient, writes: readonly Write[]): Promise<void> {
  const groups: Write[][] = [];
  for (let at = 0; at < writes.length; at += WRITES_PER_TRANSACTION) {
    groups.push(writes.slice(at, at + WRITES_PER_TRANSACTION));
  }
  const worker = async () => {
    for (let group = groups.shift(); group; group = groups.shift()) {
      await transact(store, { conditions: [], writes: group });
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
}
