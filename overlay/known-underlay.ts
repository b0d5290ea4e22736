/**
 * The underlay as the kernel's thread found it, for as long as the kernel has announced no change of a link or an address
 * in the host's namespace. It announces one before whoever made it goes on, and to look costs a system call in place of two
 * threads that wake up, so what is answered here is what the kernel would say.
 */
import { closeSync, readSync } from 'node:fs';
import type { IpAddress } from '../model/scalars.js';
import type { Underlay } from './types.js';

/** The kernel's thread. */
export interface UnderlayFinder {
  /** @throws NotFoundError when no interface has the address. KernelError. */
  find(vtep: IpAddress): Promise<Underlay>;
  /** A descriptor with the announcements, which never blocks. */
  openNews(): Promise<{ readonly fd: number }>;
}

export class KnownUnderlay implements Disposable {
  readonly #finder: UnderlayFinder;
  #opening: Promise<void> | undefined;
  /** Undefined: not open yet, and nothing is remembered. */
  #fd: number | undefined;
  #known: { readonly vtep: IpAddress; readonly underlay: Underlay } | undefined;
  /** Announcements were heard so often. */
  #changes = 0;
  readonly #packet = Buffer.alloc(4_096); // what of a packet is longer is dropped

  constructor(finder: UnderlayFinder) {
    this.#finder = finder;
  }

  /** @throws as the finder. */
  async of(vtep: IpAddress): Promise<Underlay> {
    if (this.#fd === undefined) {
      this.#opening ??= this.#open();
      return this.#finder.find(vtep);
    }
    if (this.#hasNews(this.#fd)) {
      this.#known = undefined;
      this.#changes += 1;
    }
    if (this.#known?.vtep === vtep) return this.#known.underlay;
    const changes = this.#changes;
    const underlay = await this.#finder.find(vtep);
    // Another caller may have heard of a change that this answer is older than.
    if (changes === this.#changes) this.#known = { vtep, underlay };
    return underlay;
  }

  /** Without it the kernel is asked each time, and the next call tries again. */
  async #open(): Promise<void> {
    try {
      this.#fd = (await this.#finder.openNews()).fd;
    } catch {
      this.#opening = undefined;
    }
  }

  /** Reads all there is: each may be the one. */
  #hasNews(fd: number): boolean {
    for (let heard = false; ; heard = true) {
      try {
        readSync(fd, this.#packet);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'EAGAIN') return heard;
        // More came than the socket holds. What else may befall it is no reason to trust an old answer either.
        if (code !== 'ENOBUFS') return true;
      }
    }
  }

  [Symbol.dispose](): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}
