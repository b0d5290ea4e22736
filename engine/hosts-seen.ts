/** What the mirror knows of the cluster's hosts: who is registered, who lives, and who is to be cut off. */

import { HostRecord, Presence } from '../model/host-record.js';
import type { Logger } from '../model/log.js';
import type { HostName } from '../model/scalars.js';
import type { KeyValue } from '../store/client.js';
import type { HostKey } from '../store/keys.js';
import { parseRecord } from '../store/table.js';

/** `unknown`: an agent of the original, which registers nowhere. */
export type HostState = 'living' | 'gone' | 'removed' | 'unknown';

interface Seen<T> {
  readonly record: T;
  readonly revision: number;
}

interface Entry {
  host: Seen<HostRecord> | undefined;
  presence: Seen<Presence> | undefined;
  /** When this agent first missed its presence. */
  goneSince: Date | undefined;
  /** It has been gone for longer than `--host-dead-after`. */
  overdue: NodeJS.Timeout | 'over' | undefined;
}

/** What is known of one host; pure. */
export function stateOf(entry: Pick<Entry, 'host' | 'presence'> | undefined): HostState {
  if (entry?.presence && entry.presence.record.left_at === undefined) return 'living';
  if (entry?.host?.record.removed_at !== undefined) return 'removed';
  if (entry?.presence) return 'living'; // between two runs of its agent
  return entry?.host ? 'gone' : 'unknown';
}

export class HostsSeen implements Disposable {
  readonly #log: Logger;
  readonly #entries = new Map<HostName, Entry>();
  readonly #listeners = new Set<(hostname: HostName) => void>();
  readonly #cutOffListeners = new Set<(hostname: HostName) => void>();
  readonly #cutOff = new Set<HostName>();
  #deadAfterMs = 0;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** After so long without a presence a host is cut off; 0: never. */
  set deadAfterSeconds(seconds: number) {
    this.#deadAfterMs = seconds * 1_000;
  }

  /** Told of every host whose record or presence came, changed or went, or whose time is over. */
  onChange(listener: (hostname: HostName) => void): void {
    this.#listeners.add(listener);
  }

  /** Told when a host's endpoints begin or cease to be neighbours. */
  onCutOff(listener: (hostname: HostName) => void): void {
    this.#cutOffListeners.add(listener);
  }

  names(): HostName[] {
    return [...this.#entries.keys()].sort();
  }

  record(hostname: HostName): HostRecord | undefined {
    return this.#entries.get(hostname)?.host?.record;
  }

  presence(hostname: HostName): Seen<Presence> | undefined {
    return this.#entries.get(hostname)?.presence;
  }

  /** Since when a host is gone, as far as this agent knows. */
  goneSince(hostname: HostName): Date | undefined {
    return this.#entries.get(hostname)?.goneSince;
  }

  state(hostname: HostName): HostState {
    return stateOf(this.#entries.get(hostname));
  }

  /** Whether an agent of ours holds the host's presence now; false also for an agent of the original. */
  isLiving(hostname: HostName): boolean {
    return this.state(hostname) === 'living';
  }

  /** Whether the host's endpoints are no neighbours any more: declared gone, or gone for too long. */
  isCutOff(hostname: HostName): boolean {
    const state = this.state(hostname);
    return state === 'removed' || (state === 'gone' && this.#entries.get(hostname)?.overdue === 'over');
  }

  put(at: HostKey, entry: KeyValue): void {
    const known = this.#entryOf(at.hostname);
    const revision = entry.modRevision;
    if (at.family === 'host') known.host = { record: parseRecord(HostRecord, entry), revision };
    else known.presence = { record: parseRecord(Presence, entry), revision };
    this.#changed(at.hostname, known);
  }

  forget(at: HostKey): void {
    const known = this.#entryOf(at.hostname);
    if (at.family === 'host') known.host = undefined;
    else known.presence = undefined;
    this.#changed(at.hostname, known);
  }

  #entryOf(hostname: HostName): Entry {
    const known = this.#entries.get(hostname) ?? {
      host: undefined,
      presence: undefined,
      goneSince: undefined,
      overdue: undefined,
    };
    this.#entries.set(hostname, known);
    return known;
  }

  #changed(hostname: HostName, known: Entry): void {
    if (known.presence || !known.host) this.#clear(known);
    else this.#miss(hostname, known);
    if (!known.presence && !known.host) this.#entries.delete(hostname);
    this.#emit(hostname);
  }

  #clear(known: Entry): void {
    if (known.overdue !== 'over') clearTimeout(known.overdue);
    known.goneSince = undefined;
    known.overdue = undefined;
  }

  #miss(hostname: HostName, known: Entry): void {
    known.goneSince ??= new Date();
    if (this.#deadAfterMs === 0 || known.overdue) return;
    known.overdue = setTimeout(() => {
      known.overdue = 'over';
      this.#log.warn('host is gone for too long, its endpoints are cut off', { hostname });
      this.#emit(hostname);
    }, this.#deadAfterMs).unref();
  }

  #emit(hostname: HostName): void {
    const isCutOff = this.isCutOff(hostname);
    if (this.#cutOff.has(hostname) !== isCutOff) {
      if (isCutOff) this.#cutOff.add(hostname);
      else this.#cutOff.delete(hostname);
      for (const listener of this.#cutOffListeners) listener(hostname);
    }
    for (const listener of this.#listeners) listener(hostname);
  }

  [Symbol.dispose](): void {
    for (const known of this.#entries.values()) this.#clear(known);
  }
}
