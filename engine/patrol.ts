/**
 * Compares that no news asks for. Every network has one each 28 s, and within 4 s one in which something may have gone
 * unheard: nobody listens while a change of ours is made, and a compare that failed mended nothing.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { EndpointId, NetworkId } from '../model/scalars.js';

// Chosen by us.
const ROUND_MS = 4_000; // with what is before it in its round, "within 6 s" of docs/guarantees.md
const ALL_EACH = 7; // rounds

export interface PatrolDependencies {
  readonly present: ReadonlySet<NetworkId>;
  /** False: what should be is not known yet. */
  isReady(): boolean;
  /** Answers which endpoints have no interface; what fails is told there. */
  compare(id: NetworkId): Promise<readonly EndpointId[]>;
}

export class Patrol implements AsyncDisposable {
  /**
   * Those that the next round compares, one after the other: a burst of changes is no burst of compares. Among them are
   * networks that should be here and could not be made.
   */
  readonly doubted = new Set<NetworkId>();
  readonly #deps: PatrolDependencies;
  readonly #stop = new AbortController();
  #walk: Promise<void> = Promise.resolve();
  #onAll: (missing: readonly EndpointId[]) => Promise<void> = async () => undefined;

  constructor(deps: PatrolDependencies) {
    this.#deps = deps;
  }

  /** Registers who is told, after a round of all networks, which endpoints have no interface. */
  onAll(settle: (missing: readonly EndpointId[]) => Promise<void>): void {
    this.#onAll = settle;
  }

  start(): void {
    this.#walk = this.#rounds();
  }

  async #rounds(): Promise<void> {
    const { present, isReady } = this.#deps;
    const { signal } = this.#stop;
    for (let round = 1; ; round++) {
      await sleep(ROUND_MS, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      if (!isReady()) continue;
      const all = round % ALL_EACH === 0;
      const missing = await this.#compare(new Set(all ? [...present, ...this.doubted] : this.doubted));
      if (all && !signal.aborted) await this.#onAll(missing);
    }
  }

  async #compare(ids: ReadonlySet<NetworkId>): Promise<EndpointId[]> {
    const { present, compare } = this.#deps;
    const missing: EndpointId[] = [];
    for (const id of ids) {
      if (this.#stop.signal.aborted) break;
      if (present.has(id) || this.doubted.has(id)) missing.push(...(await compare(id)));
    }
    return missing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#walk;
  }
}
