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
import { type Followed, type SnapshotReader, takeSnapshot } from './snapshot.js';

export {
  type Origin,
  readKeyNames,
  readPages,
  readSnapshot,
  readWanted,
  type SnapshotReader,
} from './snapshot.js';

// Chosen by us.
const CREATED_WITHIN_MS = 3_000; // a stream that no member confirms is given up
const BACKOFF_MS = { first: 50, most: 800 }; // "current within 2 s of etcd's return"
// etcd 3.4 and 3.5 can miss a delete at a compacted revision. What a look at all keys costs grows with them.
const DOUBT_EVERY_MS = 10 * 60_000;
const KEYS_OF_A_DOUBT = 10_000;

export type Change =
  | { readonly kind: 'put'; readonly entry: KeyValue }
  | { readonly kind: 'delete'; readonly key: string; readonly revision: number };

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
      const streamed = await streamFrom(store, next, { ...options, ...(followed ?? NOTHING) });
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

interface Streamed {
  readonly end: StreamEnd;
  readonly next: number;
  readonly confirmed: boolean;
}

type StreamOptions = FollowOptions & Pick<Followed, 'cluster' | 'keys'>;

const NOTHING = { cluster: '', keys: 0 };

const doubtAfterMs = (keys: number) =>
  DOUBT_EVERY_MS * Math.max(1, keys / KEYS_OF_A_DOUBT) * (0.75 + Math.random() / 2);

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
    setTimeout(() => resolve('doubt'), doubtAfterMs(options.keys)),
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
