/**
 * Pairs that are made ahead of their endpoints' records: both ends down, the target's without an address, so that nothing
 * passes and nobody sees an address that may be another's. What is remembered of them spares the one who finishes a pair
 * the opening of its target; all of it may be lost, for `plugAll` finds a bare pair, too.
 */
import { KernelError } from '../model/errors.js';
import type { IfName, MacAddress } from '../model/scalars.js';
import { finishing, opened } from './endpoint.js';
import type { PlugContext } from './layout.js';
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
  /** A socket in the target's namespace; undefined: in the host's, which has one. */
  readonly conn: Conn | undefined;
}

export class BarePairs implements Disposable {
  /** By the names of their ends in the overlay. */
  readonly #pairs = new Map<IfName, BarePair>();

  /** Where something stands in the way nothing is made: `plugAll` will say what. */
  make(port: BarePort, context: PlugContext): void {
    const { target, targetMac, overlayVeth } = port;
    using netns = target.kind === 'netns' ? Netns.find(target.path) : undefined;
    const { answers, failures } = context.overlay.attempt(newPair(port, netns, context));
    const [link] = answers.flatMap(message => parseLink(message) ?? []);
    if (!link || failures.size > 0) return;
    this.forget(overlayVeth);
    const conn = netns && connIn(netns, context.home);
    this.#pairs.set(overlayVeth, { mac: targetMac, near: link.index, far: link.peer, conn });
  }

  /** Undefined: there is none, or it cannot be finished; `plugAll` does it then, or says why not. */
  finish(port: WantedPort, { host, overlay }: Pick<PlugContext, 'host' | 'overlay'>): PlugResult | undefined {
    const { target, overlayVeth } = port;
    const pair = this.#pairs.get(overlayVeth);
    if (!pair || target.name === undefined) return undefined;
    try {
      (pair.conn ?? host).run(finishing({ index: pair.far, mac: pair.mac }, port));
      overlay.run(opened(pair.near, port));
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
    this.#pairs.get(overlayVeth)?.conn?.[Symbol.dispose]();
    this.#pairs.delete(overlayVeth);
  }

  [Symbol.dispose](): void {
    for (const name of this.#pairs.keys()) this.forget(name);
  }
}
