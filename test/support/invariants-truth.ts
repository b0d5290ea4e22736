/**
 * What etcd holds of a cluster, read without any code of the agent: keys as the layout's description spells them, and
 * plain JSON. The agent's own parsers would share the faults that the checks are to find.
 */
import { bitsOf } from './bit-set.js';
import type { EtcdCluster } from './etcd.js';

export interface NetworkTruth {
  readonly id: string;
  readonly name: string;
  readonly vxlan_vni: number;
  readonly ip_range: string;
  readonly gateway: string;
}
export interface EndpointTruth {
  readonly id: string;
  readonly network_id: string;
  readonly hostname: string;
  readonly created_at: string;
  readonly host_ip: string;
  readonly target_netns_path: string;
  readonly overlay_veth_name: string;
  readonly overlay_veth_mac: string;
  readonly target_veth_name: string;
  readonly target_veth_mac: string;
  readonly target_veth_ip: string;
  readonly active: boolean;
  readonly docker?: { readonly endpoint_id: string; readonly network_id: string };
}
export interface OwnerTruth {
  readonly kind: string;
  readonly hostname: string;
  readonly at: number;
  readonly endpoint_id?: string;
}
export interface BindingTruth {
  readonly network_id: string;
  readonly docker_network_id: string;
  readonly aux_addresses: readonly string[];
}

/** One key: the parts after its family, and its parsed value. */
export interface Entry<T> {
  readonly parts: readonly string[];
  readonly value: T;
  readonly leased: boolean;
}

interface RangeAnswer {
  readonly kvs?: readonly { readonly key: string; readonly value?: string; readonly lease?: number }[];
}

export interface AttributesTruth {
  readonly mtu: number;
  readonly origin: string;
  readonly dataplane?: 'macvlan';
}

export class Truth {
  readonly #families = new Map<string, Entry<unknown>[]>();
  readonly networks = new Map<string, NetworkTruth>();
  /** As every agent watches them. */
  readonly endpoints: readonly EndpointTruth[];

  private constructor(answer: RangeAnswer, prefix: string) {
    const text = (base64 = '') => Buffer.from(base64, 'base64').toString();
    for (const { key, value, lease } of answer.kvs ?? []) {
      const [family = '', ...parts] = text(key)
        .slice(prefix.length + 1)
        .split('/');
      const entry = { parts, value: JSON.parse(text(value)), leased: (lease ?? 0) !== 0 };
      this.#families.set(family, [...(this.#families.get(family) ?? []), entry]);
    }
    for (const { parts, value } of this.family<NetworkTruth>('network')) {
      this.networks.set(parts[0] ?? '', value);
    }
    this.endpoints = this.family<EndpointTruth>('network-endpoints').map(({ value }) => value);
  }

  /** All of it at one revision. */
  static async read(etcd: EtcdCluster, prefix: string): Promise<Truth> {
    return new Truth(JSON.parse(await etcd.ctl('get', `${prefix}/`, '--prefix', '-w', 'json')), prefix);
  }

  family<T>(name: string): readonly Entry<T>[] {
    return (this.#families.get(name) ?? []) as Entry<T>[];
  }

  endpointsOf(network: string): EndpointTruth[] {
    return this.endpoints.filter(({ network_id }) => network_id === network);
  }

  /** What agents of ours have added to a network; undefined for one that an agent of the original made. */
  attributesOf(network: string): AttributesTruth | undefined {
    const found = this.family<AttributesTruth>('network.attributes');
    return found.find(({ parts }) => parts[0] === network)?.value;
  }

  bindingsOf(network: string): Entry<BindingTruth>[] {
    return this.family<BindingTruth>('network.bindings').filter(({ parts }) => parts[0] === network);
  }

  /** Addresses whose bit is set; undefined without a pool. */
  takenIn({ id, ip_range }: NetworkTruth): Set<string> | undefined {
    const pool = this.family<{ bit_set: string }>('ipalloc').find(({ parts }) => parts[0] === id);
    if (!pool) return undefined;
    const first = numberOf(ip_range);
    return new Set([...bitsOf(pool.value.bit_set).taken].map(bit => textOf(first + bit)));
  }
}

/** `10.0.0.5/24` and `10.0.0.5` → `10.0.0.5`. */
export const bare = (address: string) => address.split('/')[0] ?? '';

const numberOf = (address: string) =>
  bare(address)
    .split('.')
    .reduce((sum, byte) => sum * 256 + Number(byte), 0);
const textOf = (number: number) => [24, 16, 8, 0].map(shift => (number >>> shift) & 255).join('.');

/** Network and broadcast address of a range. */
export function endsOf(range: string): readonly [string, string] {
  const size = 2 ** (32 - Number(range.split('/')[1]));
  return [textOf(numberOf(range)), textOf(numberOf(range) + size - 1)];
}
