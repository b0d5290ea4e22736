/** The overlay namespaces that are held open, and what is heard and seen of them. */
import type { NetnsPath } from '../model/scalars.js';
import { findLink } from './endpoint.js';
import { HeldNetns } from './held-netns.js';
import { layoutIn } from './layouts.js';
import type { Link } from './netlink/link.js';
import { connIn, type Netns } from './netns.js';
import { pinMac } from './network.js';
import type { Repair } from './types.js';

// Chosen, for repairs within 2 seconds.
const LISTEN_EVERY_MS = 250; // a microsecond for each namespace
const LOOK_EVERY_MS = 1_000; // six microseconds for each
export const FILE_GONE: Repair = 'namespace file: not ours any more, bound again';

export class HeldNamespaces implements Disposable {
  readonly #home: Netns;
  readonly #onChange: (path: NetnsPath) => void;
  readonly #held = new Map<NetnsPath, HeldNetns>();
  readonly #timers: readonly NodeJS.Timeout[];

  /** @param onChange told when others may have changed something in one. */
  constructor(home: Netns, onChange: (path: NetnsPath) => void) {
    this.#home = home;
    this.#onChange = onChange;
    this.#timers = [
      setInterval(() => this.#listen(), LISTEN_EVERY_MS),
      setInterval(() => this.#look(), LOOK_EVERY_MS),
    ];
  }

  get(path: NetnsPath): HeldNetns | undefined {
    return this.#held.get(path);
  }

  /**
   * To be called while `quietly` works: nothing of that is news.
   * @param seen the gateway, by whoever has just looked
   */
  hold(path: NetnsPath, seen?: Link): void {
    if (this.#held.has(path)) return;
    const held = HeldNetns.hold(path, this.#home);
    if (!held) return;
    using conn = connIn(held.netns, this.#home);
    const gateway = seen ?? findLink(conn, layoutIn(conn).gateway);
    conn.run(pinMac(gateway));
    held.bridgeMac = gateway?.mac;
    held.monitor.mute();
    this.#held.set(path, held);
  }

  release(path: NetnsPath): void {
    this.#held.get(path)?.[Symbol.dispose]();
    this.#held.delete(path);
  }

  /** Our own changes are no news to us. */
  async quietly<T>(path: NetnsPath, work: () => T | Promise<T>): Promise<T> {
    this.#held.get(path)?.monitor.mute();
    try {
      return await work();
    } finally {
      this.#held.get(path)?.monitor.unmute();
    }
  }

  /** Its file may have been unmounted, removed or replaced. */
  bindAgain(path: NetnsPath): Repair[] {
    const held = this.#held.get(path);
    if (!held || held.isAtItsPath) return [];
    held.bindAgain(this.#home);
    return [FILE_GONE];
  }

  #listen(): void {
    for (const [path, { monitor, departures }] of this.#held) {
      if (monitor.hasNews || departures?.hasNews) this.#onChange(path);
    }
  }

  /** What netlink does not tell: the namespace's file, and settings. */
  #look(): void {
    for (const [path, held] of this.#held) {
      if (!held.isAtItsPath || !held.hasItsSettings(this.#home)) this.#onChange(path);
    }
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers) clearInterval(timer);
    for (const path of this.#held.keys()) this.release(path);
  }
}
