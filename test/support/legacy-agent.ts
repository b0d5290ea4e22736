/**
 * A stand-in of the original's agent on one host: etcd, kernel objects, its watch, and what its HTTP API and its
 * Docker plugin do. Runs inside the host, as the child process of `legacy-main.ts`.
 */
import { existsSync } from 'node:fs';
import type { Watcher } from 'etcd3';
import {
  ensureNetwork,
  isPlugged,
  isSetUp,
  makePair,
  moveTarget,
  removeNetwork,
  removePair,
  removePeer,
  setPeer,
} from './legacy-data-plane.js';
import { type LegacyEndpoint, legacyEndpoint } from './legacy-records.js';
import type { LegacyStore } from './legacy-store.js';

export class LegacyAgent implements AsyncDisposable {
  readonly store: LegacyStore;
  #watcher: Watcher | undefined;
  /** One change of the kernel at a time, as behind the original's mutex. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(store: LegacyStore) {
    this.store = store;
  }

  /** Watches, then takes up its endpoints of before: the active ones as far as their namespaces are still there. */
  async start(): Promise<void> {
    this.#watcher = await this.store.watchEndpoints({
      put: record => this.#ofPeer(record, setPeer),
      gone: record => this.#ofPeer(record, removePeer),
    });
    for (const record of await this.store.ownEndpoints()) {
      if (!record.active) continue;
      if (existsSync(record.target_netns_path)) await this.activate(record, 'move');
      else await this.store.putEndpoint({ ...record, active: false });
    }
  }

  #ofPeer(record: LegacyEndpoint, change: (record: LegacyEndpoint) => Promise<void>): void {
    if (record.host_ip === this.store.host.ip) return;
    const work = async () => (isSetUp(record.network_id) ? change(record) : undefined);
    this.#inTurn(work).catch(error => console.error('peer', record.id, error));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  /** As `POST /endpoints`: address, records, and with a namespace the interface in it. */
  async createEndpoint(network: string, netns: string | undefined, wanted?: string): Promise<LegacyEndpoint> {
    await this.store.network(network);
    const record = await this.#newEndpoint(network, await this.store.takeAddress(network, wanted));
    return netns === undefined ? record : this.activate({ ...record, target_netns_path: netns }, 'move');
  }

  /** As `DELETE /endpoints/{id}`: the bit of its address stays set. */
  async deleteEndpoint(id: string): Promise<void> {
    const record = (await this.store.ownEndpoints()).find(each => each.id === id);
    if (!record) throw new Error(`endpoint ${id} not found`);
    await this.remove(record);
  }

  async #newEndpoint(network: string, address: string, mac?: string): Promise<LegacyEndpoint> {
    const made = legacyEndpoint(network, this.store.host, address);
    const record = mac ? { ...made, target_veth_mac: mac } : made;
    await this.store.putEndpoint(record);
    return record;
  }

  /** Makes the network where it lacks, then the pair unless it is there; Docker places its interface itself. */
  activate(record: LegacyEndpoint, target: 'move' | 'leave'): Promise<LegacyEndpoint> {
    return this.#inTurn(async () => {
      await this.#setUp(record.network_id);
      if (target === 'move' && record.overlay_veth_name !== '' && (await isPlugged(record))) return record;
      const active = { ...record, ...(await makePair(record)), active: true };
      if (target === 'move') await moveTarget(active.target_veth_name, active);
      await this.store.putEndpoint(active);
      return active;
    });
  }

  async #setUp(network: string): Promise<void> {
    await ensureNetwork(await this.store.network(network));
    await this.store.setPresence(network, true);
    for (const peer of await this.store.endpointsOf(network)) {
      if (peer.host_ip !== this.store.host.ip) await setPeer(peer);
    }
  }

  /** The interface goes, the record stays. */
  deactivate(record: LegacyEndpoint): Promise<LegacyEndpoint> {
    return this.#inTurn(async () => {
      await removePair(record);
      const inactive = { ...record, active: false };
      await this.store.putEndpoint(inactive);
      return inactive;
    });
  }

  /** With the last endpoint of a network on this host its namespace goes too. */
  async remove(record: LegacyEndpoint): Promise<void> {
    const { network_id } = record;
    if (record.active) await this.deactivate(record);
    await this.store.deleteEndpoint(record);
    const left = (await this.store.ownEndpoints()).some(each => each.network_id === network_id);
    if (left) return;
    await this.#inTurn(() => removeNetwork(network_id));
    await this.store.setPresence(network_id, false);
  }

  /** As the plugin's CreateEndpoint: the address has been taken by RequestAddress. */
  dockerEndpoint = (network: string, address: string, mac: string) =>
    this.#newEndpoint(network, address, mac || undefined);

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#watcher?.cancel();
    await this.#turn;
    await this.store[Symbol.asyncDispose]();
  }
}
