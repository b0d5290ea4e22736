/** A change of the truth as a value: conditions, writes, and what to read when a condition does not hold. */
import type { ICompare, IRequestOp } from 'etcd3/lib/rpc.js';
import { UnavailableError } from '../model/errors.js';
import { type KeyValue, keyValueOf, type StoreClient } from './client.js';
import { endOfPrefix } from './keys.js';

/** etcd refuses a transaction with more conditions, writes or reads than this (etcd's --max-txn-ops). */
export const MAX_TXN_OPS = 128;

export type Condition =
  | { readonly absent: string }
  | { readonly exists: string }
  /** The key has not been written since this revision; 0: absent. */
  | { readonly unchanged: string; readonly revision: number }
  /** No key begins with this. */
  | { readonly empty: string }
  /** No key that begins with this has been written after this revision. */
  | { readonly quiet: string; readonly since: number };

export type Write =
  | { readonly put: string; readonly value: unknown; readonly lease?: string }
  | { readonly delete: string }
  // Only for families that the mirror does not follow, since nobody is told what went:
  /** All keys with a prefix. */
  | { readonly deletePrefix: string }
  /** The key, if its value is this one. */
  | { readonly deleteIf: string; readonly value: unknown };

/** The key, or prefix, that a write is about. */
export function keyOf(write: Write): string {
  if ('put' in write) return write.put;
  if ('delete' in write) return write.delete;
  return 'deletePrefix' in write ? write.deletePrefix : write.deleteIf;
}

/** A single key, or all keys with a prefix. */
export type Read = { readonly key: string } | { readonly prefix: string };

export interface Transaction {
  readonly conditions: readonly Condition[];
  readonly writes: readonly Write[];
  /** Answered when a condition does not hold, so that a retry needs no request of its own. */
  readonly otherwiseRead?: readonly Read[];
}

export type TransactionResult =
  | { readonly committed: true; readonly revision: number }
  | { readonly committed: false; readonly revision: number; readonly found: readonly KeyValue[][] };

function compareOf(condition: Condition): ICompare {
  if ('absent' in condition) return createdAt(condition.absent, 'Equal');
  if ('exists' in condition) return createdAt(condition.exists, 'Greater');
  if ('empty' in condition) {
    return { ...createdAt(condition.empty, 'Equal'), range_end: endOfPrefix(condition.empty) };
  }
  if ('quiet' in condition) {
    return {
      key: Buffer.from(condition.quiet),
      range_end: endOfPrefix(condition.quiet),
      target: 'Mod',
      result: 'Less',
      mod_revision: condition.since + 1,
    };
  }
  return {
    key: Buffer.from(condition.unchanged),
    target: 'Mod',
    result: 'Equal',
    mod_revision: condition.revision,
  };
}

const createdAt = (key: string, result: 'Equal' | 'Greater'): ICompare => ({
  key: Buffer.from(key),
  target: 'Create',
  result,
  create_revision: 0,
});

function writeOf(write: Write): IRequestOp {
  if ('delete' in write) return { request_delete_range: { key: Buffer.from(write.delete) } };
  if ('deletePrefix' in write) return { request_delete_range: rangeOf({ prefix: write.deletePrefix }) };
  const key = Buffer.from(keyOf(write));
  const value = Buffer.from(JSON.stringify(write.value));
  if ('put' in write) return { request_put: { key, value, lease: write.lease ?? 0 } };
  return {
    request_txn: {
      compare: [{ key, target: 'Value', result: 'Equal', value }],
      success: [{ request_delete_range: { key } }],
      failure: [],
    },
  };
}

export const rangeOf = (read: Read) =>
  'key' in read
    ? { key: Buffer.from(read.key) }
    : { key: Buffer.from(read.prefix), range_end: endOfPrefix(read.prefix) };

/**
 * Carries out one transaction, under the client's fence.
 * @throws UnavailableError: etcd did not answer, and the transaction may or may not have been carried out; or the fence
 * does not hold, and it was not.
 */
export async function transact(store: StoreClient, change: Transaction): Promise<TransactionResult> {
  const { fence } = store;
  if (!fence) return send(store, change);
  const held: Condition = { unchanged: fence.key, revision: fence.revision };
  const result = await send(store, {
    conditions: [...change.conditions, held],
    writes: change.writes,
    otherwiseRead: [...(change.otherwiseRead ?? []), { key: fence.key }],
  });
  if (result.committed) return result;
  const found = [...result.found];
  const [now] = found.pop() ?? [];
  if (now?.modRevision === fence.revision) return { ...result, found };
  fence.lost();
  throw new UnavailableError(
    `This agent does not hold ${fence.key} any more, and nothing was changed; it claims the key again: try again`,
    { key: fence.key },
  );
}

/** One transaction, fence or not: for those that make the fence. */
export async function send(store: StoreClient, change: Transaction): Promise<TransactionResult> {
  const answer = await store.txn({
    compare: change.conditions.map(compareOf),
    success: change.writes.map(writeOf),
    failure: (change.otherwiseRead ?? []).map(read => ({ request_range: rangeOf(read) })),
  });
  const revision = Number(answer.header.revision);
  if (answer.succeeded) return { committed: true, revision };
  const found = answer.responses.map(response => response.response_range.kvs.map(keyValueOf));
  return { committed: false, revision, found };
}

/** etcd refuses a transaction that writes a key twice: the last write of each key counts. */
export function distinctWrites(writes: readonly Write[]): Write[] {
  return [...new Map(writes.map(write => [keyOf(write), write])).values()];
}

/** One linearizable read of a key. */
export async function readKey(store: StoreClient, key: string): Promise<KeyValue | undefined> {
  const { kvs } = await store.range(rangeOf({ key }));
  return kvs[0] && keyValueOf(kvs[0]);
}

/** All keys with a prefix, in one answer: for families that are small. */
export async function readPrefix(store: StoreClient, prefix: string): Promise<KeyValue[]> {
  const { kvs } = await store.range(rangeOf({ prefix }));
  return kvs.map(keyValueOf);
}
