/**
 * A stand-in of the original's agent, from the description of its layout: it queues with a key of its own lease for
 * the lock, reads, changes and writes without comparing. Over etcd3's own interface, and nothing of ours.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Etcd3, type Lease } from 'etcd3';
import { bitsOf, textOf } from './bit-set.js';

const POOL_LOCK_SECONDS = 20;
const VNI_LOCK_SECONDS = 300;

interface StoredPool {
  readonly address_range: string;
  readonly address_count: number;
  readonly bit_set: string;
}

export class LegacyAgent implements AsyncDisposable {
  readonly #etcd: Etcd3;
  readonly #prefix: string;
  readonly #hostname: string;
  readonly #leases: Lease[] = [];

  constructor(hosts: readonly string[], prefix: string, hostname: string) {
    this.#etcd = new Etcd3({ hosts: [...hosts] });
    this.#prefix = prefix;
    this.#hostname = hostname;
  }

  /** Takes the lowest clear bit, writes the pool and an endpoint; gives the address. */
  async createEndpoint(network: string): Promise<string> {
    const address = await this.#locked(poolLock(network), POOL_LOCK_SECONDS, () =>
      this.#takeAddress(network),
    );
    const id = randomUUID();
    const mac = `02:84:${address
      .split('.')
      .map(byte => Number(byte).toString(16).padStart(2, '0'))
      .join(':')}`;
    const record = JSON.stringify({
      id,
      network_id: network,
      hostname: this.#hostname,
      host_ip: '192.0.2.1',
      api_hostname: '',
      created_at: new Date().toISOString(),
      target_netns_path: '',
      overlay_veth_name: 'sand1234',
      overlay_veth_mac: '',
      target_veth_name: 'eth1',
      target_veth_mac: mac,
      target_veth_ip: `${address}/24`,
      active: true,
      unknown_to_us: { whatever: 1 },
    });
    await this.#etcd.put(`${this.#prefix}/node-endpoints/${this.#hostname}/${id}`).value(record);
    await this.#etcd.put(`${this.#prefix}/network-endpoints/${network}/${id}`).value(record);
    return address;
  }

  /** Clears the bit of an address of a /24. */
  releaseAddress(network: string, address: string): Promise<void> {
    return this.#locked(poolLock(network), POOL_LOCK_SECONDS, async () => {
      const pool = await this.#readPool(network);
      const { length, taken } = bitsOf(pool.bit_set);
      taken.delete(Number(address.split('.')[3]));
      await this.#writePool(network, { ...pool, bit_set: textOf(length, taken) });
    });
  }

  /** Takes the lowest VNI that no network bears; gives it. */
  async createNetwork(id: string = randomUUID()): Promise<number> {
    return this.#locked('/etcd-lock/vni-idgen/', VNI_LOCK_SECONDS, async () => {
      const networks = await this.#etcd.getAll().prefix(`${this.#prefix}/network/`).json();
      const taken = new Set(Object.values(networks).map(value => (value as { vxlan_vni: number }).vxlan_vni));
      let vni = 1;
      while (taken.has(vni)) vni += 1;
      const bit_set = textOf(256, [0, 1, 255]);
      const pool = { id, address_range: '10.0.0.0/24', address_count: 256, bit_set };
      await this.#etcd.put(`${this.#prefix}/ipalloc/${id}`).value(JSON.stringify(pool));
      await this.#etcd.put(`${this.#prefix}/network/${id}`).value(legacyNetwork(id, vni));
      return vni;
    });
  }

  /** Deletes what it knows of a network, which is not all that we keep of it. */
  async deleteNetwork(id: string): Promise<void> {
    await this.#etcd.delete().key(`${this.#prefix}/network/${id}`);
    await this.#etcd.delete().key(`${this.#prefix}/ipalloc/${id}`);
  }

  /** Takes a lock and dies with it: the key stays until its lease ends. Gives the key. */
  async dieHolding(range: 'vni' | { readonly pool: string }): Promise<string> {
    const lock = range === 'vni' ? '/etcd-lock/vni-idgen/' : poolLock(range.pool);
    const { key } = await this.#enqueue(lock, range === 'vni' ? VNI_LOCK_SECONDS : POOL_LOCK_SECONDS);
    return key;
  }

  async #takeAddress(network: string): Promise<string> {
    const pool = await this.#readPool(network);
    const { length, taken } = bitsOf(pool.bit_set);
    let bit = 0;
    while (taken.has(bit)) bit += 1;
    taken.add(bit);
    await this.#writePool(network, { ...pool, bit_set: textOf(length, taken) });
    return `${pool.address_range.split('.', 3).join('.')}.${bit}`;
  }

  async #readPool(network: string): Promise<StoredPool> {
    return (await this.#etcd.get(`${this.#prefix}/ipalloc/${network}`).json()) as unknown as StoredPool;
  }

  async #writePool(network: string, pool: StoredPool): Promise<void> {
    await this.#etcd.put(`${this.#prefix}/ipalloc/${network}`).value(JSON.stringify(pool));
  }

  async #locked<T>(range: string, seconds: number, work: () => Promise<T>): Promise<T> {
    const { key, lease } = await this.#enqueue(range, seconds);
    try {
      for (;;) {
        const [oldest] = await this.#etcd.getAll().prefix(range).sort('Create', 'Ascend').keys();
        if (oldest === key) return await work();
        await sleep(5);
      }
    } finally {
      await lease.revoke();
    }
  }

  async #enqueue(range: string, seconds: number): Promise<{ key: string; lease: Lease }> {
    const lease = this.#etcd.lease(seconds);
    this.#leases.push(lease);
    const key = `${range}${BigInt(await lease.grant()).toString(16)}`;
    await lease.put(key).value('');
    return { key, lease };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const lease of this.#leases) lease.release();
    this.#etcd.close();
  }
}

const poolLock = (network: string) => `/etcd-lock/ipalloc-lock/${network}/`;

/** A network's record as agents of the original write it, with a key that nobody knows. */
export const legacyNetwork = (id: string, vni: number, fields: object = {}) =>
  JSON.stringify({
    id,
    created_at: '2020-01-01T00:00:00.123456789Z',
    name: `net-sc-${id}`,
    type: 'overlay',
    ns_handle_path: `/var/run/netns/sc-ns-${id}`,
    vxlan_vni: vni,
    ip_range: '10.0.0.0/24',
    gateway: '10.0.0.1/24',
    unknown_to_us: true,
    ...fields,
  });
