/**
 * The one etcd client of a process. etcd3 gives connections, credentials and load balancing; requests go through
 * its raw `kv`, because range compares and reads in a refused transaction have no place in its builders, and the
 * watch stream is ours (follow.ts), because etcd3's loses events on a second disconnect (docs/decisions/0003).
 */
import { readFileSync } from 'node:fs';
import type { Metadata } from '@grpc/grpc-js';
import { ConsecutiveBreaker, ConstantBackoff, circuitBreaker, handleWhen, noop, retry } from 'cockatiel';
import {
  Etcd3,
  type IKeyValue,
  type IOptions,
  type IRangeRequest,
  type IRangeResponse,
  isRecoverableError,
} from 'etcd3';
import type { ITxnRequest, ITxnResponse, IWatchRequest, IWatchResponse } from 'etcd3/lib/rpc.js';
import { UnavailableError } from '../model/errors.js';

// Chosen by us. A request and its retries end within 6.5 s, far below Docker's 30 s for one call.
const ATTEMPT_DEADLINE_MS = 1_500;
const MAX_RETRIES = 3;
const RETRY_PAUSE_MS = 100;

export interface StoreTls {
  readonly ca: string;
  readonly cert?: string;
  readonly key?: string;
}

export interface StoreOptions {
  readonly hosts: readonly string[];
  readonly tls?: StoreTls | undefined;
  readonly auth?: { readonly username: string; readonly password: string } | undefined;
}

/** Reads the PEM files of a cluster's TLS settings. @throws a file system error that names the path. */
export const readTls = (files: { ca: string; cert?: string; key?: string }): StoreTls => ({
  ca: readFileSync(files.ca, 'utf8'),
  ...(files.cert ? { cert: readFileSync(files.cert, 'utf8') } : {}),
  ...(files.key ? { key: readFileSync(files.key, 'utf8') } : {}),
});

/** The raw bidirectional stream of etcd's Watch service. */
export interface WatchStream {
  on(event: 'data', listener: (response: IWatchResponse) => void): this;
  on(event: 'error', listener: (error: Error) => void): this;
  on(event: 'end', listener: () => void): this;
  write(request: IWatchRequest): boolean;
  cancel(): void;
}

/** Opens `pool`, which etcd3 keeps for its own managers. */
class RawEtcd extends Etcd3 {
  async openWatch(): Promise<WatchStream> {
    return this.pool.withConnection('Watch', async ({ client, metadata }) => {
      const withLeader: Metadata = metadata.clone();
      // A member cut off from its quorum ends such a stream; without it, it stays silent for ever.
      withLeader.set('hasleader', 'true');
      const watch = (client as unknown as { watch(metadata: Metadata): WatchStream }).watch;
      return watch.call(client, withLeader);
    });
  }
}

const etcdOptions = ({ hosts, tls, auth }: StoreOptions): IOptions => ({
  hosts: [...hosts],
  ...(tls ? { credentials: credentialsOf(tls) } : {}),
  ...(auth ? { auth: { ...auth } } : {}),
  grpcOptions: {
    'grpc.max_receive_message_length': -1, // the default of 4 MiB refuses a page of large values
    'grpc.keepalive_time_ms': 10_000, // etcd refuses pings more often than every 5 s
    'grpc.keepalive_timeout_ms': 3_000,
    'grpc.keepalive_permit_without_calls': 1,
    // gRPC's own pauses grow to two minutes: an etcd that is back would not be seen for as long.
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 500,
  },
  // A function: a fresh deadline for each attempt. On a stream it would end the stream.
  defaultCallOptions: context => (context.isStream ? {} : { deadline: Date.now() + ATTEMPT_DEADLINE_MS }),
  faultHandling: {
    host: () =>
      hosts.length === 1
        ? noop
        : circuitBreaker(handleWhen(isRecoverableError), {
            halfOpenAfter: 2_000,
            breaker: new ConsecutiveBreaker(2),
          }),
    global: retry(handleWhen(isRecoverableError), {
      maxAttempts: MAX_RETRIES,
      backoff: new ConstantBackoff(RETRY_PAUSE_MS),
    }),
  },
});

const credentialsOf = (tls: StoreTls) => ({
  rootCertificate: Buffer.from(tls.ca),
  ...(tls.key ? { privateKey: Buffer.from(tls.key) } : {}),
  ...(tls.cert ? { certChain: Buffer.from(tls.cert) } : {}),
});

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

/** Requests to etcd with a deadline on each; every failure of the line is an UnavailableError. */
export class StoreClient implements AsyncDisposable {
  readonly #etcd: RawEtcd;
  readonly #where: string;
  #answering = true;

  constructor(options: StoreOptions) {
    this.#etcd = new RawEtcd(etcdOptions(options));
    this.#where = options.hosts.join(',');
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
  txn(request: ITxnRequest): Promise<ITxnResponse> {
    return this.#call(() => this.#etcd.kv.txn(request));
  }

  range(request: IRangeRequest): Promise<IRangeResponse> {
    return this.#call(() => this.#etcd.kv.range(request));
  }

  /** A lease that ends `ttlSeconds` after its last renewal. Returns its id, a decimal int64. */
  async grantLease(ttlSeconds: number): Promise<string> {
    const { ID } = await this.#call(() => this.#etcd.leaseClient.leaseGrant({ TTL: ttlSeconds, ID: 0 }));
    return ID;
  }

  async revokeLease(id: string): Promise<void> {
    await this.#call(() => this.#etcd.leaseClient.leaseRevoke({ ID: id }));
  }

  /** Says nothing of etcd yet: a stream is open before anybody has confirmed it. */
  openWatch(): Promise<WatchStream> {
    return this.#etcd.openWatch();
  }

  async #call<T>(request: () => Promise<T>): Promise<T> {
    try {
      const answer = await request();
      this.#answering = true;
      return answer;
    } catch (cause) {
      this.#answering = false;
      const text = cause instanceof Error ? cause.message : String(cause);
      throw new UnavailableError(`etcd at ${this.#where} does not serve the request (${text}); check etcd`, {
        cause,
        etcd: this.#where,
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#etcd.close();
  }
}
