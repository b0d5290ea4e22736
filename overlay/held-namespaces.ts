/** The overlay namespaces that are held open, and what is heard and seen of them. */
import type { NetnsPath } from '../model/scalars.js';
import { HeldNetns } from './held-netns.js';
import type { Netns } from './netns.js';
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

  /** From here on, if it is there. To be called while `quietly` works: nothing of that is news. */
  hold(path: NetnsPath): HeldNetns | undefined {
    const held = this.#held.get(path) ?? HeldNetns.find(path, this.#home);
    if (held) this.#held.set(path, held);
    return held;
  }

  /** The same with a new one, bound to its path. */
  make(path: NetnsPath): HeldNetns {
    const held = HeldNetns.make(path, this.#home);
    this.#held.set(path, held);
    return held;
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
    held.bindAgain();
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
      if (!held.isAtItsPath || held.settings.hasNews) this.#onChange(path);
    }
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers) clearInterval(timer);
    for (const path of this.#held.keys()) this.release(path);
  }
}
