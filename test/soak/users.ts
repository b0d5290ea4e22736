/** Users of a network on all hosts at once: they come and go, and note who was given which address. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestNetns } from '../support/netns.js';
import type { SoakCluster } from './cluster.js';
import type { SoakHost } from './host.js';

const PER_HOST = 3;
const PAUSE_MS = 40;
const MOST = 12; // endpoints of one user

interface Held {
  readonly id: string;
  readonly address: string;
  readonly netns: TestNetns;
}

export interface Tally {
  created: number;
  deleted: number;
  /** With status 503, 409 and the like, or without an answer since the agent was killed. */
  refused: number;
  duplicates: number;
}

export class Users {
  readonly tally: Tally = { created: 0, deleted: 0, refused: 0, duplicates: 0 };
  readonly #cluster: SoakCluster;
  readonly #network: string;
  /** Addresses that somebody holds, by the answers. */
  readonly #addresses = new Set<string>();
  readonly #held = new Map<SoakHost, Held[]>();
  /** Whose endpoint was refused, or may be there all the same: they stay to the end, and the next ones come into them. */
  readonly #unsure = new Set<TestNetns>();
  readonly #free: TestNetns[] = [];
  #running: Promise<unknown> = Promise.resolve();
  #stopped = true;

  constructor(cluster: SoakCluster, network: string) {
    this.#cluster = cluster;
    this.#network = network;
  }

  start(): void {
    this.#stopped = false;
    const all = this.#cluster.hosts.flatMap(host => Array.from({ length: PER_HOST }, () => this.#live(host)));
    this.#running = Promise.all(all);
  }

  /** Everybody ends what he is doing. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async #live(host: SoakHost): Promise<void> {
    while (!this.#stopped) {
      const held = this.#heldOn(host);
      const full = held.length >= MOST * PER_HOST;
      const leaves = full || (held.length > 0 && Math.random() < 0.45);
      await (leaves ? this.#leave(host) : this.#come(host)).catch(() => {
        this.tally.refused += 1;
      });
      await sleep(PAUSE_MS * Math.random());
    }
  }

  #heldOn(host: SoakHost): Held[] {
    const held = this.#held.get(host) ?? [];
    this.#held.set(host, held);
    return held;
  }

  /** Without an answer nobody knows; the agent is asked at the end, as a person would. */
  async #come(host: SoakHost): Promise<void> {
    const netns = this.#free.pop() ?? (await this.#cluster.netns());
    const wish = {
      network_id: this.#network,
      activate: true,
      activate_params: { ns_handle_path: netns.path },
    };
    const { status, text } = await host
      .api('POST', '/endpoints', wish)
      .catch(() => ({ status: 0, text: '' }));
    if (status !== 201) {
      this.tally.refused += 1;
      this.#unsure.add(netns);
      this.#free.push(netns);
      return;
    }
    const { id, target_veth_ip: address } = JSON.parse(text).endpoint;
    if (this.#addresses.has(address)) this.tally.duplicates += 1;
    this.#addresses.add(address);
    this.#heldOn(host).push({ id, address, netns });
    this.tally.created += 1;
  }

  async #leave(host: SoakHost): Promise<void> {
    const held = this.#heldOn(host);
    const [one] = held.splice(Math.floor(Math.random() * held.length), 1);
    if (!one) return;
    // From here on it may be given again, whatever the answer.
    this.#addresses.delete(one.address);
    const { status } = await host.api('DELETE', `/endpoints/${one.id}`).catch(() => ({ status: 0 }));
    if (status === 204 || status === 404) {
      this.tally.deleted += 1;
      if (this.#unsure.has(one.netns)) this.#free.push(one.netns);
      else await this.#cluster.removeNetns(one.netns);
    } else this.tally.refused += 1;
  }

  /** Everything of theirs goes, also what they were never told of. */
  async clear(): Promise<void> {
    for (const host of this.#cluster.hosts) {
      const { text } = await host.api('GET', `/endpoints?network_id=${this.#network}&hostname=${host.name}`);
      for (const { id } of JSON.parse(text).endpoints) await host.api('DELETE', `/endpoints/${id}`);
    }
  }
}
