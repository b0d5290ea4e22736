/**
 * One set of connections to etcd with one set of credentials. It is retired when other credentials take over: what is
 * under way ends, what streams is cut, and then it is closed.
 */
import type { Metadata } from '@grpc/grpc-js';
import { ConsecutiveBreaker, ConstantBackoff, circuitBreaker, handleWhen, noop, retry } from 'cockatiel';
import { Etcd3, GRPCResourceExhastedError, type IOptions, isRecoverableError } from 'etcd3';
import type { IWatchRequest, IWatchResponse } from 'etcd3/lib/rpc.js';
import { bindWithoutWarning } from './async-binding.js';

// Chosen by us. A request and its retries end within 6.5 s, far below Docker's 30 s for one call.
const ATTEMPT_DEADLINE_MS = 1_500;
const MAX_RETRIES = 3;
const RETRY_PAUSE_MS = 100;

/** PEM texts. Without a CA those that Node knows count. */
export interface StoreTls {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

export interface StoreOptions {
  readonly hosts: readonly string[];
  readonly tls?: StoreTls | undefined;
  readonly auth?: { readonly username: string; readonly password: string } | undefined;
}

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

  /** The next call asks etcd for a new token. */
  forgetToken(): void {
    // etcd3 does so itself only for tokens that etcd does not know.
    const { authenticator } = this.pool as unknown as { authenticator: { invalidateMetadata(): void } };
    authenticator.invalidateMetadata();
  }
}

/** A member that says it is full answers: put aside for that, it would not be asked in the seconds after there is room. */
const isFaultOfHost = (error: Error) =>
  isRecoverableError(error) && !(error instanceof GRPCResourceExhastedError);

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
        : circuitBreaker(handleWhen(isFaultOfHost), {
            halfOpenAfter: 2_000,
            breaker: new ConsecutiveBreaker(2),
          }),
    global: retry(handleWhen(isRecoverableError), {
      maxAttempts: MAX_RETRIES,
      backoff: new ConstantBackoff(RETRY_PAUSE_MS),
    }),
  },
});

// gRPC takes Node's CAs, NODE_EXTRA_CA_CERTS included, where no other is given; etcd3's types do not say so.
const credentialsOf = (tls: StoreTls): NonNullable<IOptions['credentials']> => ({
  rootCertificate: (tls.ca ? Buffer.from(tls.ca) : null) as Buffer,
  ...(tls.key ? { privateKey: Buffer.from(tls.key) } : {}),
  ...(tls.cert ? { certChain: Buffer.from(tls.cert) } : {}),
});

/** A token of before a change of users or roles (etcd: server/etcdserver/api/v3rpc/rpctypes, ErrAuthOldRevision). */
const isOldToken = (error: unknown) =>
  error instanceof Error && error.message.includes('revision of auth store is old');

export class EtcdLine {
  readonly #etcd: RawEtcd;
  readonly #streams = new Set<WatchStream>();
  #calls = 0;
  #retired = false;

  constructor(options: StoreOptions) {
    bindWithoutWarning();
    this.#etcd = new RawEtcd(etcdOptions(options));
  }

  get retired(): boolean {
    return this.#retired;
  }

  /** A call, and once more with a new token when etcd refuses the old one before it did anything. */
  async call<T>(request: (etcd: Etcd3) => Promise<T>): Promise<T> {
    this.#calls += 1;
    try {
      return await request(this.#etcd).catch(error => {
        if (!isOldToken(error)) throw error;
        this.#etcd.forgetToken();
        return request(this.#etcd);
      });
    } finally {
      this.#calls -= 1;
      this.#closeWhenDone();
    }
  }

  async openWatch(): Promise<WatchStream> {
    const stream = await this.#etcd.openWatch();
    this.#streams.add(stream);
    const over = () => void this.#streams.delete(stream);
    stream.on('error', over).on('end', over);
    return stream;
  }

  /** Cuts streams, which their owners open anew elsewhere, and closes when the last call has ended. */
  retire(): void {
    this.#retired = true;
    for (const stream of this.#streams) stream.cancel();
    this.#closeWhenDone();
  }

  #closeWhenDone(): void {
    if (this.#retired && this.#calls === 0) this.#etcd.close();
  }

  close(): void {
    this.#etcd.close();
  }
}
