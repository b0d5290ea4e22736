/**
 * Follows a range of keys: a snapshot at one revision, then every change after it, in order and once.
 *
 *     snapshot ──▶ streaming ──▶ (line lost) ──▶ streaming from the last seen revision + 1
 *         ▲                          │
 *         └── compaction, or doubt ──┘     doubt also comes by itself every few minutes
 *
 * The stream's start is counted from the revisions of the events seen, never from a response's header: a header
 * may already be ahead of events that a broken line swallowed.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { IWatchResponse } from 'etcd3/lib/rpc.js';
import { describeError } from '../model/errors.js';
import { type Logger, rateLimited } from '../model/log.js';
import { type KeyValue, keyValueOf, type StoreClient, type WatchStream } from './client.js';
import { endOfPrefix } from './keys.js';

// Chosen by us.
const PAGE_KEYS = 2_000; // a page of endpoint records is some 1.5 MB, here and, for each agent that reads, in etcd
// When all hosts of a large cluster start at once, etcd serves each page late: who gives up and asks again would only
// have it do the same work twice, until it does nothing else.
const PAGE_WITHIN_MS = 15_000;
const CREATED_WITHIN_MS = 3_000; // a stream that no member confirms is given up
const BACKOFF_MS = { first: 50, most: 800 }; // "current within 2 s of etcd's return"
const DOUBT_EVERY_MS = 10 * 60_000; // etcd 3.4 and 3.5 can miss a delete at a compacted revision

export type Change =
  | { readonly kind: 'put'; readonly entry: KeyValue }
  | { readonly kind: 'delete'; readonly key: string; readonly revision: number };

/**
 * `restored`: the history that was followed is not this one's. etcd runs on a backup, or is another cluster; revisions
 * say nothing about what was known before.
 */
export type Origin = 'followed' | 'restored';

export interface FollowOptions {
  readonly prefix: string;
  /** Keys, in order, at which a large snapshot is cut. */
  readonly cuts?: readonly string[];
  readonly signal: AbortSignal;
  readonly log: Logger;
  readonly snapshot: SnapshotReader;
  /** The changes of one or more whole revisions, the last of which is `revision`. */
  onChanges(changes: readonly Change[], revision: number): void;
  /** The line is up (a stream is confirmed) or lost. */
  onLine?(up: boolean): void;
}

/** Everything there is at one revision, in pages: a whole cluster would be more than an agent should hold. */
export interface SnapshotReader {
  /** Whatever was begun before and has not ended is void. */
  begin(revision: number, origin: Origin): void;
  page(entries: readonly KeyValue[]): void;
  /** What was known before and came in no page is gone. */
  end(): void;
}

interface Page {
  readonly entries: readonly KeyValue[];
  readonly revision: number;
  readonly cluster: string;
}

/**
 * The whole range at one revision. etcd looks at every key from where a page begins to the end of what was asked for,
 * whatever the limit: so what is more than one page is asked for piece by piece.
 */
async function* readPages(
  store: StoreClient,
  prefix: string,
  cuts: readonly string[] = [],
): AsyncIterable<Page> {
  const whole = endOfPrefix(prefix);
  let [key, range_end]: [Buffer, Buffer] = [Buffer.from(prefix), whole];
  let [revision, cluster] = [0, ''];
  for (;;) {
    const page = await store.range({ key, range_end, limit: PAGE_KEYS, revision }, PAGE_WITHIN_MS);
    if (revision === 0) [revision, cluster] = [Number(page.header.revision), page.header.cluster_id];
    yield { entries: page.kvs.map(keyValueOf), revision, cluster };
    const last = page.kvs.at(-1);
    if (page.more && last) key = Buffer.concat([last.key, Buffer.from([0])]);
    else if (range_end.equals(whole)) return;
    else key = range_end;
    const cut = cuts.find(each => Buffer.from(each).compare(key) > 0);
    range_end = cut === undefined ? whole : Buffer.from(cut);
  }
}

/** Reads the whole range at one revision, page by page; `keep` says what of a page is kept. */
export async function readSnapshot(
  store: StoreClient,
  prefix: string,
  keep: (entry: KeyValue) => boolean = () => true,
): Promise<{ entries: KeyValue[]; revision: number; cluster: string }> {
  const entries: KeyValue[] = [];
  let [revision, cluster] = [0, ''];
  for await (const page of readPages(store, prefix)) {
    for (const entry of page.entries) if (keep(entry)) entries.push(entry);
    ({ revision, cluster } = page);
  }
  return { entries, revision, cluster };
}

/** A stream is refused for ever with a token that has expired; a call gets a new one, for both. */
const readAnything = (store: StoreClient, prefix: string) =>
  store.range({ key: Buffer.from(prefix), range_end: endOfPrefix(prefix), limit: 1, keys_only: true });

type StreamEnd = 'lost' | 'refused' | 'compacted' | 'doubt';

/** Runs until the signal; never throws. */
export async function follow(store: StoreClient, options: FollowOptions): Promise<void> {
  const { signal } = options;
  const log = rateLimited(options.log);
  let next: number | undefined;
  let followed: Followed | undefined;
  let pause = BACKOFF_MS.first;
  while (!signal.aborted) {
    try {
      if (next === undefined) {
        const read = await takeSnapshot(store, followed, options);
        if (!read) return;
        followed = read;
        next = read.revision + 1;
      }
      const streamed = await streamFrom(store, next, { ...options, cluster: followed?.cluster ?? '' });
      if (followed) followed = { ...followed, revision: streamed.next - 1 };
      next = ['lost', 'refused'].includes(streamed.end) ? streamed.next : undefined;
      if (streamed.confirmed) pause = BACKOFF_MS.first;
      if (next === undefined) continue;
      if (streamed.end === 'refused') await readAnything(store, options.prefix);
    } catch (error) {
      log.warn('etcd is away, trying again', { err: describeError(error), etcd: store.where });
    }
    options.onLine?.(false);
    await sleep(pause * (0.5 + Math.random()), undefined, { signal }).catch(() => undefined);
    pause = Math.min(pause * 2, BACKOFF_MS.most);
  }
}

/** Undefined: the signal came. */
async function takeSnapshot(
  store: StoreClient,
  followed: Followed | undefined,
  { prefix, cuts, signal, snapshot }: FollowOptions,
): Promise<Followed | undefined> {
  let read: Followed | undefined;
  const pages = readPages(store, prefix, cuts)[Symbol.asyncIterator]();
  for (;;) {
    const page = await orAborted(pages.next(), signal);
    if (page === 'aborted') return undefined;
    if (page.done) break;
    const { entries, revision, cluster } = page.value;
    if (!read) {
      const isOurs = !followed || (followed.cluster === cluster && revision >= followed.revision);
      snapshot.begin(revision, isOurs ? 'followed' : 'restored');
      read = { cluster, revision };
    }
    snapshot.page(entries);
  }
  snapshot.end();
  return read;
}

/** Whoever stops does not wait for a page. Not `Promise.race`: a signal that lasts would keep every page. */
function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T | 'aborted'> {
  return new Promise((resolve, reject) => {
    const stop = () => resolve('aborted');
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop);
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}

/** The history that was followed, and how far. */
interface Followed {
  readonly cluster: string;
  readonly revision: number;
}

interface Streamed {
  readonly end: StreamEnd;
  readonly next: number;
  readonly confirmed: boolean;
}

type StreamOptions = FollowOptions & Pick<Followed, 'cluster'>;

async function streamFrom(store: StoreClient, start: number, options: StreamOptions): Promise<Streamed> {
  const stream = await store.openWatch();
  let next = start;
  let confirmed = false;
  let resolve: (end: StreamEnd) => void = () => undefined;
  const ended = new Promise<StreamEnd>(settle => {
    resolve = settle;
  });
  const timers = [
    setTimeout(() => confirmed || resolve('lost'), CREATED_WITHIN_MS),
    setTimeout(() => resolve('doubt'), DOUBT_EVERY_MS * (0.75 + Math.random() / 2)),
  ];
  const stop = () => resolve('lost');
  options.signal.addEventListener('abort', stop);
  if (options.signal.aborted) stop(); // while the stream was opened
  stream.on('error', error => resolve(isRefusal(error) ? 'refused' : 'lost'));
  stream.on('end', stop);
  let over = false;
  stream.on('data', response => {
    // What is still under way is not counted any more: the next stream brings it again.
    if (over) return;
    if (response.canceled) return resolve(Number(response.compact_revision) > 0 ? 'compacted' : 'refused');
    // Of a backup a stream would wait in silence for the revision that it asks for.
    const { cluster_id, revision } = response.header;
    if (response.created && (cluster_id !== options.cluster || Number(revision) < start - 1)) {
      return resolve('doubt');
    }
    if (response.created && !confirmed) {
      confirmed = true;
      options.onLine?.(true);
    }
    next = deliver(response, next, options);
  });
  open(stream, options.prefix, start);
  const end = await ended;
  over = true;
  options.signal.removeEventListener('abort', stop);
  timers.forEach(clearTimeout);
  stream.cancel();
  return { end, next, confirmed };
}

/** gRPC's INVALID_ARGUMENT (a token of before a change of roles), PERMISSION_DENIED and UNAUTHENTICATED. */
const isRefusal = (error: Error) => [3, 7, 16].includes((error as { code?: number }).code ?? 0);

const open = (stream: WatchStream, prefix: string, start: number) =>
  stream.write({
    create_request: { key: Buffer.from(prefix), range_end: endOfPrefix(prefix), start_revision: start },
  });

/** Hands the events of one response on; answers the revision from which to go on. */
function deliver(response: IWatchResponse, next: number, options: FollowOptions): number {
  const changes: Change[] = [];
  let after = next;
  for (const event of response.events) {
    const revision = Number(event.kv.mod_revision);
    after = Math.max(after, revision + 1);
    changes.push(
      event.type === 'Delete'
        ? { kind: 'delete', key: event.kv.key.toString(), revision }
        : { kind: 'put', entry: keyValueOf(event.kv) },
    );
  }
  if (changes.length > 0 && !options.signal.aborted) options.onChanges(changes, after - 1);
  return after;
}
