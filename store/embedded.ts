/**
 * An etcd of the agent's own, for a machine without a cluster: the `etcd` program as a child on unix sockets in the
 * state directory. It dies with the agent however that dies, is started again when it dies alone, and is kept small.
 * Everything else talks to it as to any etcd.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { UnavailableError } from '../model/errors.js';
import { type Logger, rateLimited } from '../model/log.js';
import type { IpAddress } from '../model/scalars.js';
import type { CertificateFiles } from './certificates.js';
import { StoreClient } from './client.js';
import { type EtcdAddress, encodeJoinToken } from './join-token.js';
import { keepSmall } from './upkeep.js';

// etcd 3.4 takes a unix socket only relative to its working directory, and with a port in its name.
const CLIENT_SOCKET = 'client.sock:0';
const PEER_SOCKET = 'peer.sock:0';
const CLIENT_PORT = 2379;
// Chosen by us.
const QUOTA_BYTES = 4 * 1024 ** 3; // a busy /16 writes 11 KB per address between two compactions
const READY_WITHIN_MS = 10_000;
const STOP_WITHIN_MS = 500; // the agent itself has a second
const RESTART_MS = { first: 100, most: 5_000 };
const UPKEEP_EVERY_MS = 60_000;
const LINES_KEPT = 20;
// A member alone has nobody to wait for: an election of its own is most of a restart's time at etcd's 1,000 ms.
const HEARTBEAT_MS = 50;
const ELECTION_MS = 250;

export interface EmbeddedOptions {
  readonly stateDir: string;
  readonly log: Logger;
  /** Opens it to other hosts on this address, with TLS. */
  readonly listen?: IpAddress;
  readonly program?: string;
  readonly quotaBytes?: number;
}

export class EmbeddedEtcd implements AsyncDisposable {
  readonly #options: EmbeddedOptions;
  readonly #directory: string;
  readonly #certificates: CertificateFiles | undefined;
  readonly #log: Logger;
  readonly #lastLines: string[] = [];
  readonly #stop = new AbortController();
  #child: ChildProcess | undefined;
  #loop: Promise<void> = Promise.resolve();
  #tending: Promise<void> = Promise.resolve();
  #failure: Error | undefined;

  private constructor(options: EmbeddedOptions, certificates: CertificateFiles | undefined) {
    this.#options = options;
    this.#directory = join(options.stateDir, 'etcd');
    this.#certificates = certificates;
    this.#log = rateLimited(options.log);
  }

  static hasData(stateDir: string): boolean {
    return existsSync(join(stateDir, 'etcd', 'data', 'member'));
  }

  /** Resolves when it serves. @throws UnavailableError with the last lines that it printed. */
  static async start(options: EmbeddedOptions): Promise<EmbeddedEtcd> {
    const certificates =
      options.listen &&
      (await (
        await import('./certificates.js')
      ).ensureCertificates(join(options.stateDir, 'tls'), options.listen));
    const etcd = new EmbeddedEtcd(options, certificates);
    mkdirSync(etcd.#directory, { recursive: true, mode: 0o700 });
    etcd.#loop = etcd.#run();
    try {
      await etcd.#ready();
    } catch (error) {
      await etcd[Symbol.asyncDispose]();
      throw error;
    }
    etcd.#tending = etcd.#upkeep();
    return etcd;
  }

  /** Where this host's own agent reaches it. */
  get address(): EtcdAddress {
    return { hosts: [`unix:${join(this.#directory, CLIENT_SOCKET)}`] };
  }

  /** What to type on a second host; it holds a client key. */
  get joinCommand(): string | undefined {
    const { listen } = this.#options;
    if (!listen || !this.#certificates) return undefined;
    const { ca, clientCert, clientKey } = this.#certificates;
    const [caPem = '', cert = '', key = ''] = [ca, clientCert, clientKey].map(path =>
      readFileSync(path, 'utf8'),
    );
    return `ETCD_HOSTS=${encodeJoinToken(this.#outside, { ca: caPem, cert, key })} sand-agent`;
  }

  /** Host and port for others. */
  get #outside(): string {
    const { listen = '' } = this.#options;
    return `${isIPv6(listen) ? `[${listen}]` : listen}:${CLIENT_PORT}`;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    for (let pause = RESTART_MS.first; !signal.aborted; pause = Math.min(pause * 2, RESTART_MS.most)) {
      const began = Date.now();
      const how = await this.#runOnce();
      if (signal.aborted) return;
      this.#log.warn('embedded etcd ended, starting it again', { how, last: this.#lastLines.at(-1) });
      if (Date.now() - began > 60_000) pause = RESTART_MS.first;
      await sleep(pause, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Until the child has ended; answers how. */
  #runOnce(): Promise<string> {
    for (const name of [CLIENT_SOCKET, PEER_SOCKET]) rmSync(join(this.#directory, name), { force: true });
    // The kernel kills it when the agent's thread ends, whatever ended that.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...this.#command()], {
      cwd: this.#directory,
      env: { PATH: process.env['PATH'] ?? '', GOMAXPROCS: '2' },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#child = child;
    child.stderr.on('data', (chunk: Buffer) => this.#keepLines(chunk.toString()));
    return new Promise(resolve => {
      child.once('error', error => {
        this.#failure = error;
        resolve(error.message);
      });
      child.once('exit', (code, signal) => resolve(signal ?? `exit status ${code}`));
    });
  }

  #command(): string[] {
    const unix = `unix://${CLIENT_SOCKET}`;
    const peer = `unix://${PEER_SOCKET}`;
    const { quotaBytes = QUOTA_BYTES } = this.#options;
    const tls = this.#certificates;
    const outside = `https://${this.#outside}`;
    const flags = [
      ['name', 'sand'],
      ['data-dir', 'data'],
      ['listen-client-urls', tls ? `${unix},${outside}` : unix],
      ['advertise-client-urls', tls ? outside : unix],
      ['listen-peer-urls', peer],
      ['initial-advertise-peer-urls', peer],
      ['initial-cluster', `sand=${peer}`],
      ['heartbeat-interval', String(HEARTBEAT_MS)],
      ['election-timeout', String(ELECTION_MS)],
      ['auto-compaction-mode', 'revision'],
      ['auto-compaction-retention', '1000'],
      ['quota-backend-bytes', String(quotaBytes)],
      ['logger', 'zap'],
      ['log-level', 'warn'],
      ...(tls
        ? [
            ['client-cert-auth', 'true'],
            ['trusted-ca-file', tls.ca],
            ['cert-file', tls.serverCert],
            ['key-file', tls.serverKey],
          ]
        : []),
    ];
    return [this.#options.program ?? 'etcd', ...flags.map(([flag, value]) => `--${flag}=${value}`)];
  }

  #keepLines(text: string): void {
    this.#lastLines.push(...text.split('\n').filter(line => line.trim() !== ''));
    this.#lastLines.splice(0, this.#lastLines.length - LINES_KEPT);
  }

  async #ready(): Promise<void> {
    await using client = new StoreClient(this.address);
    const deadline = Date.now() + READY_WITHIN_MS;
    for (;;) {
      const answered = await client.range({ key: Buffer.from('/'), limit: 1 }).then(
        () => true,
        () => false,
      );
      if (answered) return;
      const missing =
        this.#failure ?? this.#lastLines.some(line => /No such file|failed to execute/.test(line));
      if (Date.now() > deadline || missing) throw this.#notReady();
      await sleep(20);
    }
  }

  #notReady(): UnavailableError {
    const program = this.#options.program ?? 'etcd';
    const last = this.#lastLines.at(-1) ?? this.#failure?.message ?? 'it printed nothing';
    return new UnavailableError(
      `The embedded etcd does not serve (${last}); is the program ${program} installed, or give --etcd-hosts`,
      { cause: this.#failure, program, last_lines: [...this.#lastLines] },
    );
  }

  async #upkeep(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await sleep(UPKEEP_EVERY_MS, undefined, { signal, ref: false }).catch(() => undefined);
      if (!signal.aborted) await keepSmall(this.address, this.#log);
    }
  }

  /** The data stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#child?.kill('SIGTERM');
    const killed = setTimeout(() => this.#child?.kill('SIGKILL'), STOP_WITHIN_MS);
    await this.#loop;
    clearTimeout(killed);
    await this.#tending;
  }
}
