/** What the reconcile has mended, and what it could not: counted and told. */
import { describeError } from '../model/errors.js';
import { type Logger, rateLimited } from '../model/log.js';
import type { NetworkId } from '../model/scalars.js';
import type { Repair } from '../overlay/types.js';

const TOLD_MAX = 10; // of one compare

export class RepairBook {
  readonly #log: Logger;
  readonly #quietLog: Logger;
  #count = 0;
  #lastAt: Date | undefined;

  constructor(log: Logger) {
    this.#log = log;
    this.#quietLog = rateLimited(log);
  }

  /** Differences mended since the start. */
  get count(): number {
    return this.#count;
  }

  /** When a network was last compared as a whole. */
  get lastAt(): Date | undefined {
    return this.#lastAt;
  }

  compared(id: NetworkId, repairs: readonly Repair[]): void {
    this.#lastAt = new Date();
    if (repairs.length === 0) return;
    this.#count += repairs.length;
    this.#log.warn('kernel repaired', {
      network_id: id,
      repairs: repairs.slice(0, TOLD_MAX),
      count: repairs.length,
    });
  }

  /** Mended, and told, by somebody else. */
  add(count: number): void {
    this.#count += count;
  }

  complain(id: NetworkId, error: unknown): void {
    this.#quietLog.error('reconcile not finished, trying again', {
      network_id: id,
      err: describeError(error),
    });
  }
}
