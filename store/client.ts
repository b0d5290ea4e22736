/**
 * The one etcd client of a process. etcd3 gives connections, credentials and load balancing; requests go through
 * its raw `kv`, because range compares and reads in a refused transaction have no place in its builders, and the
 * watch stream is ours (follow.ts), because etcd3's loses events on a second disconnect (docs/decisions/0003).
 */
import type { Writable } from 'node:stream';
import type { Etcd3, IKeyValue, IRangeRequest, IRangeResponse } from 'etcd3';
import type { ITxnRequest, ITxnResponse } from 'etcd3/lib/rpc.js';
import { UnavailableError } from '../model/errors.js';
import { stepped } from '../model/steps.js';
import { EtcdLine, type StoreOptions, type StoreTls, type WatchStream } from './etcd-line.js';

export type { StoreOptions, StoreTls, WatchStream } from './etcd-line.js';

const KEEP_WITHIN_MS = 3_000; // chosen: several times what a busy member takes

export interface KeyValue {
  readonly key: string;
  readonly value: string;
  readonly createRevision: number;
  readonly modRevision: number;
}

export const keyValueOf = (kv: IKeyValue): KeyValue => ({
  key: kv.key.toString(),
  value: kv.value.toString(),
  createRevision: Number(kv.create_revision),
  modRevision: Number(kv.mod_revision),
});

/** A key that every transaction of this client compares, so that whoever lost it can change nothing any more. */
export interface Fence {
  readonly key: string;
  readonly revision: number;
  /** Called by a transaction that found it changed. */
  lost(): void;
}

/** Requests to etcd with a deadline on each; every failure of the line is an UnavailableError. */
export class StoreClient implements AsyncDisposable {
  readonly #options: StoreOptions;
  readonly #where: string;
  readonly #secure: boolean;
  #line: EtcdLine;
  #answering = true;
  fence: Fence | undefined;
  /** Aborted by whoever is about to stop: large answers that are late are not waited for any more. */
  readonly patience = new AbortController();

  constructor(options: StoreOptions) {
    this.#options = options;
    this.#where = options.hosts.join(',');
    this.#secure = options.tls !== undefined || this.#where.startsWith('https:');
    this.#line = new EtcdLine(options);
  }

  /** Where this client dials, for messages. */
  get where(): string {
    return this.#where;
  }

  /** False from a request that etcd did not serve to the next that it does. */
  get answering(): boolean {
    return this.#answering;
  }

  /** One transaction. @throws UnavailableError: it may or may not have been carried out. */
  async txn(request: ITxnRequest): Promise<ITxnResponse> {
    const answer = await this.#call(etcd => etcd.kv.txn(request));
    if (answer.succeeded) stepped('etcd', 'txn');
    return answer;
  }

  /** `withinMs`: for answers that are large, tried once; default: as every call. */
  range(request: IRangeRequest, withinMs?: number): Promise<IRangeResponse> {
    const options = withinMs === undefined ? undefined : { deadline: Date.now() + withinMs };
    return this.#call(etcd => etcd.kv.range(request, options));
  }

  /** A lease that ends `ttlSeconds` after its last renewal. Returns its id, a decimal int64. */
  async grantLease(ttlSeconds: number): Promise<string> {
    const { ID } = await this.#call(etcd => etcd.leaseClient.leaseGrant({ TTL: ttlSeconds, ID: 0 }));
    stepped('etcd', 'lease granted');
    return ID;
  }

  /** Renews a lease. Answers false when it has ended. */
  async keepLease(id: string): Promise<boolean> {
    return this.#call(async etcd => {
      const stream = await etcd.leaseClient.leaseKeepAlive();
      try {
        const lives = await new Promise<boolean>((resolve, reject) => {
          const late = () => reject(new Error(`lease ${id} not renewed within ${KEEP_WITHIN_MS} ms`));
          setTimeout(late, KEEP_WITHIN_MS).unref();
          stream.on('data', ({ TTL }) => resolve(Number(TTL) > 0)).on('error', reject);
          stream.on('end', () => reject(new Error('the stream of leases has ended')));
          stream.write({ ID: id });
        });
        // A stream that is cancelled is an error to etcd3, which then closes the line under all others, too.
        (stream as unknown as Writable).end();
        return lives;
      } catch (error) {
        stream.cancel();
        throw error;
      }
    });
  }

  async revokeLease(id: string): Promise<void> {
    await this.#call(etcd => etcd.leaseClient.leaseRevoke({ ID: id }));
    stepped('etcd', 'lease revoked');
  }

  /** Says nothing of etcd yet: a stream is open before anybody has confirmed it. */
  async openWatch(): Promise<WatchStream> {
    for (;;) {
      const line = this.#line;
      const stream = await line.openWatch();
      if (!line.retired) return stream;
      stream.cancel();
    }
  }

  /**
   * Other credentials for every call and stream from now on. Calls under way end as they began, streams are cut.
   * @throws UnavailableError: etcd answers with what this client has and not with these, so nothing was changed.
   */
  async renew(tls: StoreTls): Promise<void> {
    const next = new EtcdLine({ ...this.#options, tls });
    const refusal = await refusalOf(next);
    if (refusal !== undefined && (await refusalOf(this.#line)) === undefined) {
      next.close();
      throw this.#unavailable(refusal);
    }
    const before = this.#line;
    this.#line = next;
    before.retire();
  }

  async #call<T>(request: (etcd: Etcd3) => Promise<T>): Promise<T> {
    try {
      const answer = await this.#line.call(request);
      this.#answering = true;
      return answer;
    } catch (cause) {
      this.#answering = false;
      throw this.#unavailable(cause);
    }
  }

  #unavailable(cause: unknown): UnavailableError {
    const text = cause instanceof Error ? cause.message : String(cause);
    return new UnavailableError(
      `etcd at ${this.#where} does not serve the request (${text}); ${remedyFor(text, this.#secure)}`,
      { cause, etcd: this.#where },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#line.close();
  }
}

/** Why etcd is out of reach on this line. What it says of users and roles is an answer. */
async function refusalOf(line: EtcdLine): Promise<unknown> {
  const failure: unknown = await line
    .call(etcd => etcd.maintenance.status())
    .then(
      () => undefined,
      error => error,
    );
  return failure instanceof Error && failure.message.includes('etcdserver:') ? undefined : failure;
}

/** etcd and gRPC tell the reason in words only, and of a handshake that failed often nothing. */
function remedyFor(text: string, secure: boolean): string {
  if (/authentication failed|user name is empty/.test(text)) return 'check ETCD_USERNAME and ETCD_PASSWORD';
  if (text.includes('permission denied')) return 'grant its user reading and writing of the prefix';
  return secure ? 'check etcd, and ETCD_CACERT, ETCD_TLS_CERT and ETCD_TLS_KEY' : 'check etcd';
}
