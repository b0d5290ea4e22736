/** Interfaces that were taken out of use are deleted a moment later: the kernel takes long for it, and nobody waits. */
import type { NetnsPath } from '../model/scalars.js';
import type { RetiredPlace } from './found.js';
import { REMOVAL_GROUP } from './netlink/constants.js';
import { delGroup } from './netlink/link.js';
import { connIn, Netns } from './netns.js';

/** Chosen: short against "gone within a second", long against the kernel's 16 to 30 ms for each removal. */
const REAP_AFTER_MS = 100;

export class Reaper {
  readonly #home: Netns;
  readonly #due = new Map<NetnsPath, Set<RetiredPlace>>();

  constructor(home: Netns) {
    this.#home = home;
  }

  /** All that was retired in a while goes together. */
  soon(path: NetnsPath, places: Iterable<RetiredPlace>): void {
    const known = this.#due.get(path);
    const due = new Set([...(known ?? []), ...places]);
    if (due.size > 0) this.#due.set(path, due);
    if (known || due.size === 0) return;
    setTimeout(() => {
      const places = this.#due.get(path) ?? [];
      this.#due.delete(path);
      // What is left is found, by its group, by the next reconcile.
      this.#reap(path, places).catch(() => undefined);
    }, REAP_AFTER_MS);
  }

  /** The other ends of pairs go with those in the overlay; the host's own are for networks whose overlay is gone. */
  async #reap(path: NetnsPath, places: Iterable<RetiredPlace>): Promise<void> {
    using netns = Netns.find(path);
    using conn = connIn(netns ?? this.#home, this.#home);
    for (const place of netns ? places : ['here' as const]) {
      await conn.runSlowly(delGroup(REMOVAL_GROUP, place === 'here' ? undefined : place));
    }
  }
}
