/** One follower of a prefix and everything that it was told, as the engine's mirror would keep it. */

import type { StoreClient } from '../../store/client.js';
import { type Change, follow } from '../../store/follow.js';
import { LogBook } from './log-book.js';

export class Follower implements AsyncDisposable {
  readonly values = new Map<string, string>();
  /** `key@revision` of every change, in the order of arrival. */
  readonly changes: string[] = [];
  readonly snapshots: number[] = [];
  readonly log = new LogBook();
  line = false;
  /** Deliveries that went back in time. */
  readonly disorder: string[] = [];
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #revision = 0;

  constructor(store: StoreClient, prefix: string) {
    let coming = new Map<string, string>();
    this.#running = follow(store, {
      prefix,
      signal: this.#stop.signal,
      log: this.log,
      snapshot: {
        begin: revision => {
          coming = new Map();
          this.#revision = revision;
        },
        page: entries => {
          for (const { key, value } of entries) coming.set(key, value);
        },
        end: () => {
          this.values.clear();
          for (const [key, value] of coming) this.values.set(key, value);
          this.snapshots.push(this.#revision);
        },
      },
      onChanges: (changes, revision) => {
        for (const change of changes) this.#take(change);
        this.#revision = revision;
      },
      onLine: up => {
        this.line = up;
      },
    });
  }

  #take(change: Change): void {
    const { key, revision } =
      change.kind === 'put' ? { key: change.entry.key, revision: change.entry.modRevision } : change;
    if (revision <= this.#revision) this.disorder.push(`${key}@${revision} after ${this.#revision}`);
    this.changes.push(`${key}@${revision}`);
    if (change.kind === 'put') this.values.set(key, change.entry.value);
    else this.values.delete(key);
  }

  /** The client stays open. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}
