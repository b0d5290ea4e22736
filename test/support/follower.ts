/** One follower of a prefix and everything that it was told, as the engine's mirror would keep it. */

import type { StoreClient } from '../../store/client.js';
import { type Change, follow } from '../../store/follow.js';
import { LogBook } from './log-book.js';

interface Known {
  readonly value: string;
  readonly revision: number;
}

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
  readonly #known = new Map<string, Known>();

  constructor(store: StoreClient, prefix: string) {
    let coming = new Map<string, Known>();
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
          for (const { key, value, modRevision: revision } of entries) coming.set(key, { value, revision });
        },
        knows: (key, revision) => {
          const known = this.#known.get(key);
          if (known?.revision !== revision) return false;
          coming.set(key, known);
          return true;
        },
        end: () => {
          this.values.clear();
          this.#known.clear();
          for (const [key, known] of coming) this.#set(key, known);
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
    if (change.kind === 'put') this.#set(key, { value: change.entry.value, revision });
    else {
      this.values.delete(key);
      this.#known.delete(key);
    }
  }

  #set(key: string, known: Known): void {
    this.#known.set(key, known);
    this.values.set(key, known.value);
  }

  /** The client stays open. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}
