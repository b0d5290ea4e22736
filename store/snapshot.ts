/**
 * Everything there is at one revision, read in pages: a whole cluster would be more than an agent should hold, and than
 * etcd should send at once to each of its hosts. Whoever has followed before is asked what it knows already: then keys
 * are read without their values, and the values of those alone that are news.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { GRPCDeadlineExceededError, type IRangeRequest, type IRangeResponse } from 'etcd3';
import { UnavailableError } from '../model/errors.js';
import { type KeyValue, keyValueOf, type StoreClient } from './client.js';
import { cutsBelow, endOfPrefix } from './keys.js';

// Chosen by us.
const PAGE_KEYS = 2_000; // a page of endpoint records is some 1.5 MB, here and, for each agent that reads, in etcd
const VALUES_AT_ONCE = 100; // etcd takes 128 operations in one transaction
// When all hosts of a large cluster start at once, etcd serves each page late. Who gives up and begins anew has it do
// the same work twice, until it does nothing else: so a page has time, and a late one is asked for again, smaller.
const PAGE_WITHIN_MS = 15_000;
const PAGE_TRIES = 8;
const PAGE_PAUSE_MS = 1_000;

/**
 * `restored`: the history that was followed is not this one's. etcd runs on a backup, or is another cluster; revisions
 * say nothing about what was known before.
 */
export type Origin = 'followed' | 'restored';

export interface SnapshotReader {
  /** Whatever was begun before and has not ended is void. */
  begin(revision: number, origin: Origin): void;
  page(entries: readonly KeyValue[]): void;
  /** Whether this write of the key is known: then the key is there, and `page` will not bring it. */
  knows(key: string, modRevision: number): boolean;
  /** What was known before and was in no page is gone. */
  end(): void;
}

export interface SnapshotOptions {
  readonly prefix: string;
  /** Keys, in order, at which a large snapshot is cut. */
  readonly cuts?: readonly string[];
  readonly signal: AbortSignal;
  readonly snapshot: SnapshotReader;
}

/** The history that was followed, and how far. */
export interface Followed {
  readonly cluster: string;
  readonly revision: number;
  /** How many there were in the snapshot. */
  readonly keys: number;
}

interface Page {
  readonly entries: readonly KeyValue[];
  readonly revision: number;
  readonly cluster: string;
}

interface Pages {
  readonly prefix: string;
  /** Inside the range, in order. */
  readonly cuts?: readonly string[] | undefined;
  readonly what?: Pick<IRangeRequest, 'keys_only'>;
  /** Of an earlier read, for more of the same moment; 0, the default: now. */
  readonly revision?: number;
  /**
   * Somebody waits for the answer: an etcd that is late is an error at once, as for any other call, and each page is of
   * its own moment, which no compaction takes away.
   */
  readonly hurried?: boolean;
}

/**
 * The whole range at one revision. etcd looks at every key from where a page begins to the end of what was asked for,
 * whatever the limit: so what may be more than one page is asked for piece by piece, more pieces at once while they are
 * found to be small.
 */
export async function* readPages(store: StoreClient, pages: Pages): AsyncIterable<Page> {
  const { prefix, cuts = [], what, hurried } = pages;
  const whole = endOfPrefix(prefix);
  let [key, range_end]: [Buffer, Buffer] = [Buffer.from(prefix), whole];
  let [revision, cluster, limit] = [pages.revision ?? 0, '', PAGE_KEYS];
  for (let pieces = 1; ; ) {
    const cut = cuts.filter(each => Buffer.from(each).compare(key) > 0)[pieces - 1];
    range_end = cut === undefined ? whole : Buffer.from(cut);
    const request = { ...what, key, range_end, limit, revision: hurried ? 0 : revision };
    const answered = hurried
      ? { page: await store.range(request), limit }
      : await askPatiently(store, request);
    const { page } = answered;
    if (revision === 0) revision = Number(page.header.revision);
    cluster ||= page.header.cluster_id;
    limit = answered.limit;
    yield { entries: page.kvs.map(keyValueOf), revision, cluster };
    if (page.more) pieces = 1;
    else if (page.kvs.length < PAGE_KEYS / 4) pieces *= 2;
    const last = page.kvs.at(-1);
    if (page.more && last) key = Buffer.concat([last.key, Buffer.from([0])]);
    else if (range_end.equals(whole)) return;
    else key = range_end;
  }
}

type PageRequest = IRangeRequest & { readonly limit: number; readonly revision: number };

/** Of an etcd that is late; one that is away, or has compacted the revision, is told at once. */
async function askPatiently(
  store: StoreClient,
  request: PageRequest,
): Promise<{ readonly page: IRangeResponse; readonly limit: number }> {
  let { limit } = request;
  // Of a revision that is known every member has the same to say, without asking the others.
  let serializable = request.revision > 0;
  for (let tries = 1; ; tries++) {
    try {
      const asked = store.range({ ...request, limit, serializable }, PAGE_WITHIN_MS);
      const page = await orAborted(asked, store.patience.signal);
      if (page !== 'aborted') return { page, limit };
    } catch (error) {
      const wasAlone = serializable;
      serializable = false; // a member that lags behind has not got there yet
      if (tries === PAGE_TRIES || !(isLate(error) || wasAlone)) throw error;
      if (!isLate(error)) continue;
      limit = Math.ceil(limit / 2);
      await orAborted(sleep(PAGE_PAUSE_MS * Math.random() * tries), store.patience.signal);
    }
    if (store.patience.signal.aborted) throw new UnavailableError('This agent is about to stop');
  }
}

const isLate = (error: unknown) =>
  error instanceof UnavailableError && error.cause instanceof GRPCDeadlineExceededError;

/** Reads the whole range at one revision, page by page; `keep` says what of a page is kept. */
export async function readSnapshot(
  store: StoreClient,
  prefix: string,
  keep: (entry: KeyValue) => boolean = () => true,
): Promise<{ entries: KeyValue[]; revision: number; cluster: string }> {
  const entries: KeyValue[] = [];
  let [revision, cluster] = [0, ''];
  for await (const page of readPages(store, { prefix, cuts: cutsBelow(prefix) })) {
    for (const entry of page.entries) if (keep(entry)) entries.push(entry);
    ({ revision, cluster } = page);
  }
  return { entries, revision, cluster };
}

/** Those of the whole range that are wanted: the others come without their values, which are most of what is sent. */
export async function readWanted(
  store: StoreClient,
  prefix: string,
  isWanted: (entry: Omit<KeyValue, 'value'>) => boolean,
): Promise<KeyValue[]> {
  const found: KeyValue[] = [];
  const pages = readPages(store, { prefix, cuts: cutsBelow(prefix), what: { keys_only: true } });
  for await (const { entries, revision } of pages) {
    const wanted = entries.filter(isWanted);
    for await (const some of readInGroups(store, wanted, revision)) found.push(...some);
  }
  return found;
}

/** The keys of the whole range, without their values. */
export async function readKeyNames(store: StoreClient, prefix: string): Promise<string[]> {
  const names: string[] = [];
  for await (const { entries } of readPages(store, { prefix, what: { keys_only: true } })) {
    names.push(...entries.map(({ key }) => key));
  }
  return names;
}

/** Hands a snapshot to the reader. Undefined: the signal came. */
export async function takeSnapshot(
  store: StoreClient,
  followed: Followed | undefined,
  options: SnapshotOptions,
): Promise<Followed | undefined> {
  if (!followed) return readWhole(store, 'followed', options);
  const read = await readNews(store, followed, options);
  return read === 'another history' ? readWhole(store, 'restored', options) : read;
}

async function readWhole(
  store: StoreClient,
  origin: Origin,
  { prefix, cuts, signal, snapshot }: SnapshotOptions,
): Promise<Followed | undefined> {
  let read: Followed | undefined;
  const pages = readPages(store, { prefix, cuts })[Symbol.asyncIterator]();
  for (;;) {
    const page = await orAborted(pages.next(), signal);
    if (page === 'aborted') return undefined;
    if (page.done) break;
    const { entries, revision, cluster } = page.value;
    if (!read) snapshot.begin(revision, origin);
    snapshot.page(entries);
    read = { cluster, revision, keys: (read?.keys ?? 0) + entries.length };
  }
  snapshot.end();
  return read;
}

async function readNews(
  store: StoreClient,
  followed: Followed,
  { prefix, cuts: all = [], signal, snapshot }: SnapshotOptions,
): Promise<Followed | 'another history' | undefined> {
  let read: Followed | undefined;
  const cuts = followed.keys > PAGE_KEYS ? all : [];
  const pages = readPages(store, { prefix, cuts, what: { keys_only: true } })[Symbol.asyncIterator]();
  for (;;) {
    const page = await orAborted(pages.next(), signal);
    if (page === 'aborted') return undefined;
    if (page.done) break;
    const { entries, revision, cluster } = page.value;
    if (followed.cluster !== cluster || revision < followed.revision) return 'another history';
    if (!read) snapshot.begin(revision, 'followed');
    const news = entries.filter(({ key, modRevision }) => !snapshot.knows(key, modRevision));
    const values = readInGroups(store, news, revision);
    for (;;) {
      const some = await orAborted(values.next(), signal);
      if (some === 'aborted') return undefined;
      if (some.done) break;
      snapshot.page(some.value);
    }
    read = { cluster, revision, keys: (read?.keys ?? 0) + entries.length };
  }
  snapshot.end();
  return read;
}

async function* readInGroups(
  store: StoreClient,
  entries: readonly KeyValue[],
  revision: number,
): AsyncGenerator<KeyValue[], void> {
  for (let from = 0; from < entries.length; from += VALUES_AT_ONCE) {
    yield await readKeys(store, entries.slice(from, from + VALUES_AT_ONCE), revision);
  }
}

/** Values as they were at a revision. */
async function readKeys(
  store: StoreClient,
  entries: readonly KeyValue[],
  revision: number,
): Promise<KeyValue[]> {
  const success = entries.map(({ key }) => ({ request_range: { key: Buffer.from(key), revision } }));
  const { responses } = await store.txn({ compare: [], success, failure: [] });
  return responses.flatMap(({ response_range }) => response_range.kvs.map(keyValueOf));
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
