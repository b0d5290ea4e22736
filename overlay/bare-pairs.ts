/**
 * Pairs that are made ahead of their endpoints' records: both ends down, the target's without an address, so that nothing
 * passes and nobody sees an address that may be another's. What is remembered of them spares the one who finishes a pair
 * the opening of its target; all of it may be lost, for `plugAll` finds a bare pair, too.
 */
import { KernelError } from '../model/errors.js';
import type { IfName, MacAddress } from '../model/scalars.js';
import { finishing, opened } from './endpoint.js';
import type { OverlayContext, PlugContext } from './layout.js';
import type { Conn } from './netlink/conn.js';
import { parseLink } from './netlink/link.js';
import { connIn, Netns } from './netns.js';
import { newPair } from './ports.js';
import type { BarePort, PlugResult, WantedPort } from './types.js';

interface BarePair {
  readonly mac: MacAddress;
  /** Index of the overlay's end, and of the target's. */
  readonly near: number;
  readonly far: number;
  readonly overlay: Netns;
  /** The target's namespace, and a socket there; undefined: in the host's, which has one. */
  readonly inside: { readonly netns: Netns; readonly conn: Conn } | undefined;
}

export class BarePairs implements Disposable {
  /** By the names of their ends in the overlay. */
  readonly #pairs = new Map<IfName, BarePair>();

  /** Where something stands in the way nothing is made: `plugAll` will say what. */
  make(port: BarePort, context: PlugContext): void {
    const { target, targetMac, overlayVeth } = port;
    const netns = target.kind === 'netns' ? Netns.find(target.path) : undefined;
    try {
      const { answers, failures } = context.overlay.attempt(newPair(port, netns, context));
      const [link] = answers.flatMap(message => parseLink(message) ?? []);
      if (!link || failures.size > 0) return;
      this.forget(overlayVeth);
      const inside = netns && { netns, conn: connIn(netns, context.home) };
      const { index: near, peer: far } = link;
      this.#pairs.set(overlayVeth, { mac: targetMac, near, far, overlay: context.netns, inside });
    } finally {
      // It stays open with a pair, and with nothing else.
      if (this.#pairs.get(overlayVeth)?.inside?.netns !== netns) netns?.[Symbol.dispose]();
    }
  }

  /** Undefined: there is none, or it cannot be finished; `plugAll` does it then, or says why not. */
  finish(port: WantedPort, { netns, host, overlay }: OverlayContext): PlugResult | undefined {
    const { target, overlayVeth } = port;
    const pair = this.#pairs.get(overlayVeth);
    if (!pair || target.name === undefined) return undefined;
    const { near, far, mac, inside } = pair;
    try {
      // Either may have been made anew meanwhile, under the same path.
      if (pair.overlay !== netns || inside?.netns.isAtItsPath === false) return undefined;
      (inside?.conn ?? host).run(finishing({ index: far, mac }, port));
      overlay.run(opened(near, port));
      return { ifName: target.name };
    } catch (error) {
      if (error instanceof KernelError) return undefined;
      throw error;
    } finally {
      this.forget(overlayVeth);
    }
  }

  /** The pair itself stays. */
  forget(overlayVeth: IfName): void {
    const { inside } = this.#pairs.get(overlayVeth) ?? {};
    inside?.conn[Symbol.dispose]();
    inside?.netns[Symbol.dispose]();
    this.#pairs.delete(overlayVeth);
  }

  [Symbol.dispose](): void {
    for (const name of this.#pairs.keys()) this.forget(name);
  }
}
