/** What stands in etcd of the simulated cluster, and what each host's kernel should have of it. */
import { createHash } from 'node:crypto';
import { creationWrites } from '../engine/endpoint-record.js';
import { endpointIdOf } from '../engine/host.js';
import type { EndpointRecord } from '../model/records.js';
import { type HostName, type IpAddress, type NetworkId, newEndpointId } from '../model/scalars.js';
import type { StoreClient } from '../store/client.js';
import type { Write } from '../store/transaction.js';
import { KEYS } from './lab.js';
import { times } from './row.js';
import { addressesOf, endpointRecord, networkWrites, seed } from './seed.js';

const RANGE = '10.0.0.0/24';
const HOSTS_OF_A_NETWORK = 5;
const NETWORKS_AT_ONCE = 200;

export interface Size {
  readonly hosts: number;
  readonly networks: number;
  readonly endpoints: number;
}

export const hostName = (n: number) => `scale-${n}` as HostName;
export const vtepOf = (n: number) => `10.80.${n >> 8}.${n & 255}` as IpAddress;

/** A neighbour in a kernel, as one number: sums of them are equal where the neighbours are, in any order. */
export function numberOf(network: string, address: string, mac: string, vtep: string): number {
  return createHash('sha1').update(`${network} ${address} ${mac} ${vtep}`).digest().readUInt32LE(0);
}

/** Count and sum of what stands in one host's kernel. */
export interface KernelSum {
  count: number;
  sum: number;
}

/** The networks in order, and whose endpoints are in them. */
export class Cluster {
  readonly size: Size;
  readonly #members = new Map<NetworkId, EndpointRecord[]>();

  constructor(size: Size) {
    this.size = size;
  }

  get networks(): NetworkId[] {
    return [...this.#members.keys()];
  }

  /** Writes all of it. */
  async seed(store: StoreClient, say: (text: string) => void): Promise<void> {
    const { networks } = this.size;
    for (let from = 0; from < networks; from += NETWORKS_AT_ONCE) {
      const some = times(Math.min(NETWORKS_AT_ONCE, networks - from));
      await seed(
        store,
        some.flatMap(n => this.#network(from + n)),
      );
      if ((from / NETWORKS_AT_ONCE) % 10 === 9) say(`  ${from + some.length} networks are written`);
    }
  }

  #network(n: number): Write[] {
    const { hosts, networks, endpoints } = this.size;
    const { id, writes } = networkWrites({ name: `network-${n}`, vni: n + 1, range: RANGE });
    const count = Math.floor(endpoints / networks);
    // Hosts next to each other, the next network one further: each host has as many.
    const on = (k: number) => ((n % hosts) + (k % HOSTS_OF_A_NETWORK)) % hosts;
    const records = addressesOf(RANGE, count).map((address, k) => this.endpoint(id, address, on(k)));
    this.#members.set(id, records);
    return [
      ...writes,
      ...records.flatMap(record => this.writesOf(record)),
      ...presences(id, new Set(records.map(({ hostname }) => hostname))),
    ];
  }

  /** Of a container on the host with this number. */
  endpoint(networkId: NetworkId, address: IpAddress, host: number): EndpointRecord {
    const place = { hostname: hostName(host), vtep: vtepOf(host) };
    const record = endpointRecord({ networkId, address, prefixLength: 24, ...place });
    const docker = {
      endpoint_id: `${record.id}${record.id}`.replaceAll('-', ''),
      network_id: networkId.replaceAll('-', '').repeat(2),
      address_source: 'sand-ipam' as const,
    };
    return { ...record, docker };
  }

  writesOf(record: EndpointRecord): Write[] {
    const { network_id, hostname, id: endpoint_id, target_veth_ip } = record;
    const address = target_veth_ip.split('/')[0] as IpAddress;
    const owner = { kind: 'endpoint', hostname, op: newEndpointId(), at: Date.now(), endpoint_id };
    return [...creationWrites(KEYS, record), { put: KEYS.addressOwner(network_id, address), value: owner }];
  }

  add(record: EndpointRecord): void {
    this.#members.get(record.network_id)?.push(record);
  }

  /** What the kernel of each host should have. */
  wanted(): Map<HostName, KernelSum> {
    const sums = new Map<HostName, KernelSum>();
    for (const [network, members] of this.#members) {
      const lines = members.map(({ hostname, host_ip, target_veth_ip, target_veth_mac }) => ({
        hostname,
        number: numberOf(network, target_veth_ip.split('/')[0] ?? '', target_veth_mac, host_ip),
      }));
      for (const host of new Set(members.map(({ hostname }) => hostname))) {
        const sum = sums.get(host) ?? { count: 0, sum: 0 };
        sums.set(host, sum);
        for (const { hostname, number } of lines) {
          if (hostname === host) continue;
          sum.count += 1;
          sum.sum += number;
        }
      }
    }
    return sums;
  }
}

/** Which networks are set up on a host, in both orders. */
function presences(id: NetworkId, hosts: ReadonlySet<HostName>): Write[] {
  const value = { id, created_at: new Date().toISOString() };
  return [...hosts].flatMap(host => [
    { put: KEYS.nodeNetwork(host, id), value },
    { put: KEYS.networkNode(id, host), value },
  ]);
}

export const identityOf = (n: number) => endpointIdOf(hostName(n));
