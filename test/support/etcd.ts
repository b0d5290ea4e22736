/**
 * Real etcd servers for tests: one or three members, in memory-backed directories, with short election times.
 * Every member also listens on a unix socket, which is reached from any network namespace.
 */
import { randomInt } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { json, ok } from './command.js';
import { EtcdMember } from './etcd-member.js';
import { protect } from './guardian.js';
import { namespacePath, sweep } from './sweep.js';

export interface EtcdOptions {
  readonly members?: 1 | 3;
  /** Name of a network namespace below `/run/netns` to run in. */
  readonly namespace?: string;
  /** Address to listen on, default 127.0.0.1. */
  readonly listen?: string;
  /** Paths of PEM files: TLS with mandatory client certificates; files may change before a restart. */
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string };
  /** More flags of etcd. */
  readonly flags?: Readonly<Record<string, string>>;
}

interface RangeAnswer {
  readonly kvs?: readonly { readonly key: string; readonly value?: string }[];
}

const START_ATTEMPTS = 3;

type Protection = Awaited<ReturnType<typeof protect>>;

/** A running cluster; whoever started it disposes of it. */
export class EtcdCluster {
  readonly members: readonly EtcdMember[];
  readonly #directory: string;
  readonly #protection: Protection;
  readonly #enter: readonly string[];

  /** Use `startEtcd`. */
  constructor(members: readonly EtcdMember[], directory: string, rest: [Protection, readonly string[]]) {
    this.members = members;
    this.#directory = directory;
    [this.#protection, this.#enter] = rest;
  }

  /** Client URLs, `http://127.0.0.1:21234`: valid in the namespace that etcd runs in. */
  get hosts(): string[] {
    return this.members.map(member => member.clientUrl);
  }

  /** The same servers as unix sockets in the form that etcd3 (gRPC) dials, from any network namespace. */
  get socketHosts(): string[] {
    return this.members.map(member => `unix:${member.socket}`);
  }

  /** Starts every member and waits until each serves. */
  async start(): Promise<void> {
    await Promise.all(this.members.map(member => member.launch()));
    await this.#protectAll();
    await Promise.all(this.members.map(member => member.untilHealthy()));
  }

  /** SIGKILL to one member; gives when it is gone. Its data stay. */
  kill = (member = 0) => this.#member(member).kill();

  /** Starts a killed member again with its data and address; `wait: false` when no quorum can be expected. */
  async restart(member = 0, { wait = true } = {}): Promise<void> {
    const chosen = this.#member(member);
    await chosen.kill();
    await chosen.launch();
    await this.#protectAll();
    if (wait) await chosen.untilHealthy();
  }

  /** The member stops answering and keeps its connections: what a frozen machine looks like. */
  pause = (member = 0) => this.#member(member).signal('SIGSTOP');
  resume = (member = 0) => this.#member(member).signal('SIGCONT');

  /** The log of a member since its first start. */
  log = (member = 0) => this.#member(member).log();

  /** Standard output of `etcdctl ARGS` against all members. */
  ctl(...args: readonly string[]): Promise<string> {
    return ok(this.#ctlCommand(args));
  }

  /** Keys under a prefix, in order. */
  async keys(prefix = ''): Promise<string[]> {
    const keys = [...(await this.entries(prefix)).keys()];
    return keys.filter(key => !/\/network\.(hosts|presence)\//.test(key));
  }

  /** The value of a key; undefined when there is none. */
  async get(key: string): Promise<string | undefined> {
    return decode(await json<RangeAnswer>(this.#ctlCommand(['get', key, '-w', 'json']))).get(key);
  }

  /** Keys under a prefix with their values. */
  async entries(prefix = ''): Promise<Map<string, string>> {
    return decode(await json<RangeAnswer>(this.#ctlCommand(['get', prefix, '--prefix', '-w', 'json'])));
  }

  /** Kills all members and removes their data. */
  async stop(): Promise<void> {
    await Promise.all(this.members.map(member => member.kill()));
    await sweep({ directories: [this.#directory] });
    this.#protection.release();
  }

  [Symbol.asyncDispose] = () => this.stop();

  #protectAll(): Promise<void> {
    const processes = this.members.flatMap(member => (member.identity ? [member.identity] : []));
    return this.#protection.update({ processes, directories: [this.#directory] });
  }

  #member(index: number): EtcdMember {
    const member = this.members[index];
    if (!member) throw new Error(`No etcd member ${index}; there are ${this.members.length}`);
    return member;
  }

  #ctlCommand(args: readonly string[]): string[] {
    const { members, hosts } = this;
    // The unix sockets are without TLS.
    const tls = hosts.some(host => host.startsWith('https:'));
    const endpoints = tls ? members.map(member => `unix://${member.socket}`) : hosts;
    return [...this.#enter, 'env', 'ETCDCTL_API=3', 'etcdctl', '--endpoints', endpoints.join(','), ...args];
  }
}

/** Starts etcd (about 0.2 s) and waits until it serves. @throws {Error} with etcd's log when it does not. */
export async function startEtcd(options: EtcdOptions = {}): Promise<EtcdCluster> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnPorts(options);
    } catch (error) {
      // A port that was free a moment ago may be another test's by now.
      if (attempt === START_ATTEMPTS || !String(error).includes('address already in use')) throw error;
    }
  }
}

async function startOnPorts(options: EtcdOptions): Promise<EtcdCluster> {
  const { members: count = 1, namespace, listen = '127.0.0.1', tls, flags = {} } = options;
  const enter = namespace === undefined ? [] : ['nsenter', `--net=${namespacePath(namespace)}`];
  const directory = await mkdtemp(join(memoryDirectory(), `sandetcd-${process.pid}-`));
  const protection = await protect({ directories: [directory] });
  const ports = await freePorts(listen, count * 2, namespace === undefined);
  const plans = Array.from({ length: count }, (_, index) => ({
    name: `m${index}`,
    clientUrl: `${tls ? 'https' : 'http'}://${listen}:${ports[2 * index]}`,
    peerUrl: `http://${listen}:${ports[2 * index + 1]}`,
  }));
  const cluster = plans.map(plan => `${plan.name}=${plan.peerUrl}`).join(',');
  const moreFlags = { ...flags, ...(tls ? tlsFlags(tls) : {}) };
  const members = plans.map(plan => {
    mkdirSync(join(directory, plan.name));
    return new EtcdMember({ ...plan, cluster, directory: join(directory, plan.name), enter, moreFlags });
  });
  const etcd = new EtcdCluster(members, directory, [protection, enter]);
  try {
    await etcd.start();
    return etcd;
  } catch (error) {
    await etcd.stop();
    throw error;
  }
}

const tlsFlags = ({ ca, cert, key }: NonNullable<EtcdOptions['tls']>) => ({
  'client-cert-auth': 'true',
  'trusted-ca-file': ca,
  'cert-file': cert,
  'key-file': key,
});

/** Writing through to a disk is most of an etcd transaction's time, and tests need none of it. */
function memoryDirectory(): string {
  return process.platform === 'linux' ? '/dev/shm' : tmpdir();
}

/** Below the range of outgoing connections (32768 up), so that a restarted member finds its port free. */
export async function freePorts(address: string, count: number, probe: boolean): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) {
    const port = randomInt(15_000, 32_000);
    if (!probe || (await isFree(address, port))) ports.add(port);
  }
  return [...ports];
}

function isFree(address: string, port: number): Promise<boolean> {
  return new Promise(resolve => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, address, () => server.close(() => resolve(true)));
  });
}

function decode(answer: RangeAnswer): Map<string, string> {
  const text = (base64 = '') => Buffer.from(base64, 'base64').toString();
  return new Map(answer.kvs?.map(({ key, value }) => [text(key), text(value)]));
}
