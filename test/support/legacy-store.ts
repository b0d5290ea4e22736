/**
 * The part of the original's agent that speaks with etcd, from the description of its layout: it queues with a key of
 * its own lease for the lock, reads, changes and writes without comparing. Over etcd3's own interface, and nothing of
 * ours.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Etcd3, type Lease, type Watcher } from 'etcd3';
import { bitsOf, textOf } from './bit-set.js';
import { type LegacyEndpoint, type LegacyNetwork, legacyEndpoint, legacyNetwork } from './legacy-records.js';

const POOL_LOCK_SECONDS = 20;
const VNI_LOCK_SECONDS = 300;

interface StoredPool {
  readonly address_range: string;
  readonly address_count: number;
  readonly bit_set: string;
}

export interface LegacyHost {
  readonly hostname: string;
  /** Its VTEP address. */
  readonly ip: string;
}

export class LegacyStore implements AsyncDisposable {
  readonly host: LegacyHost;
  readonly #etcd: Etcd3;
  readonly #prefix: string;
  readonly #leases: Lease[] = [];

  constructor(hosts: readonly string[], prefix: string, host: LegacyHost) {
    this.#etcd = new Etcd3({ hosts: [...hosts] });
    this.#prefix = prefix;
    this.host = host;
  }

  /** Takes the lowest clear bit, writes the pool and an endpoint; gives the address. */
  async createEndpoint(network: string): Promise<string> {
    const address = await this.takeAddress(network);
    await this.putEndpoint({
      ...legacyEndpoint(network, this.host, address),
      overlay_veth_name: 'sand1234',
      target_veth_name: 'eth1',
      active: true,
    });
    return address.split('/')[0] ?? '';
  }

  /** The lowest clear bit, or the one of an address that is named; with the prefix length of the range. */
  takeAddress(network: string, wanted?: string): Promise<string> {
    return this.#changePool(network, (taken, range) => {
      let bit = wanted === undefined ? 0 : bitOf(wanted);
      if (wanted !== undefined && taken.has(bit)) throw new Error(`address ${wanted} is already in use`);
      while (taken.has(bit)) bit += 1;
      taken.add(bit);
      const [base = '', length = ''] = range.split('/');
      return `${base.split('.', 3).join('.')}.${Number(base.split('.')[3]) + bit}/${length}`;
    });
  }

  /** Clears the bit of an address of a /24. */
  async releaseAddress(network: string, address: string): Promise<void> {
    await this.#changePool(network, taken => taken.delete(bitOf(address)));
  }

  /** Takes the lowest VNI that no network bears; gives it. */
  async createNetwork(id: string = randomUUID()): Promise<number> {
    return this.#locked('/etcd-lock/vni-idgen/', VNI_LOCK_SECONDS, async () => {
      const networks = await this.#values<LegacyNetwork>('/network/');
      const taken = new Set(networks.map(({ vxlan_vni }) => vxlan_vni));
      let vni = 1;
      while (taken.has(vni)) vni += 1;
      const bit_set = textOf(256, [0, 1, 255]);
      const pool = { id, address_range: '10.0.0.0/24', address_count: 256, bit_set };
      await this.put(`/ipalloc/${id}`, pool);
      await this.#etcd.put(`${this.#prefix}/network/${id}`).value(legacyNetwork(id, vni));
      return vni;
    });
  }

  /** Deletes what it knows of a network, which is not all that we keep of it. */
  async deleteNetwork(id: string): Promise<void> {
    await this.delete(`/network/${id}`);
    await this.delete(`/ipalloc/${id}`);
  }

  async network(id: string): Promise<LegacyNetwork> {
    const network = await this.get<LegacyNetwork>(`/network/${id}`);
    if (!network) throw new Error(`network ${id} not found`);
    return network;
  }

  endpointsOf = (network: string) => this.#values<LegacyEndpoint>(`/network-endpoints/${network}/`);
  ownEndpoints = () => this.#values<LegacyEndpoint>(`/node-endpoints/${this.host.hostname}/`);

  async putEndpoint(record: LegacyEndpoint): Promise<void> {
    await this.put(`/node-endpoints/${record.hostname}/${record.id}`, record);
    await this.put(`/network-endpoints/${record.network_id}/${record.id}`, record);
  }

  async deleteEndpoint(record: LegacyEndpoint): Promise<void> {
    await this.delete(`/node-endpoints/${record.hostname}/${record.id}`);
    await this.delete(`/network-endpoints/${record.network_id}/${record.id}`);
  }

  /** Says, or no longer says, that a network is set up on this host. */
  async setPresence(network: string, present: boolean): Promise<void> {
    const { hostname } = this.host;
    for (const key of [`/nodes/${hostname}/networks/${network}`, `/nodes-networks/${network}/${hostname}`]) {
      if (present) await this.put(key, { id: network, created_at: new Date().toISOString() });
      else await this.delete(key);
    }
  }

  /** Every PUT below `/network-endpoints`, and of every DELETE what stood there one revision before. */
  async watchEndpoints(on: {
    put(record: LegacyEndpoint): void;
    gone(record: LegacyEndpoint): void;
  }): Promise<Watcher> {
    const watcher = await this.#etcd.watch().prefix(`${this.#prefix}/network-endpoints`).create();
    watcher.on('put', ({ value }) => on.put(JSON.parse(value.toString())));
    watcher.on('delete', ({ key, mod_revision }) => {
      const before = this.#etcd.get(key.toString()).revision(Number(mod_revision) - 1);
      void before.json().then(record => record && on.gone(record as unknown as LegacyEndpoint));
    });
    return watcher;
  }

  async get<T>(key: string): Promise<T | undefined> {
    return ((await this.#etcd.get(`${this.#prefix}${key}`).json()) as T | null) ?? undefined;
  }

  async put(key: string, value: object): Promise<void> {
    await this.#etcd.put(`${this.#prefix}${key}`).value(JSON.stringify(value));
  }

  async delete(key: string): Promise<void> {
    await this.#etcd.delete().key(`${this.#prefix}${key}`);
  }

  /** Takes a lock and dies with it: the key stays until its lease ends. Gives the key. */
  async dieHolding(range: 'vni' | { readonly pool: string }): Promise<string> {
    const lock = range === 'vni' ? '/etcd-lock/vni-idgen/' : poolLock(range.pool);
    const { key } = await this.#enqueue(lock, range === 'vni' ? VNI_LOCK_SECONDS : POOL_LOCK_SECONDS);
    return key;
  }

  async #values<T>(prefix: string): Promise<T[]> {
    return Object.values(await this.#etcd.getAll().prefix(`${this.#prefix}${prefix}`).json()) as T[];
  }

  /** Reads, changes and writes, with the lock and without a compare. */
  #changePool<T>(network: string, change: (taken: Set<number>, range: string) => T): Promise<T> {
    return this.#locked(poolLock(network), POOL_LOCK_SECONDS, async () => {
      const pool = await this.get<StoredPool>(`/ipalloc/${network}`);
      if (!pool) throw new Error(`no pool of network ${network}`);
      const { length, taken } = bitsOf(pool.bit_set);
      const result = change(taken, pool.address_range);
      await this.put(`/ipalloc/${network}`, { ...pool, bit_set: textOf(length, taken) });
      return result;
    });
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
/** Number of an address in a /24 that begins at .0: what the original computes rightly. */
const bitOf = (address: string) => Number(address.split('/')[0]?.split('.')[3]);
