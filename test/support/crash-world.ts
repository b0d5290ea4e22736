/** A cluster of two hosts, one of which ends with SIGKILL at any step that is wished: its agent is a real process. */
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ApiHost } from './api-host.js';
import type { EtcdCluster } from './etcd.js';
import { type CheckedCluster, namespaceHost, untilSound, violations } from './invariants.js';
import { LocalAgent } from './local-agent.js';
import { NetnsLab, type TestNetns, unmountAll } from './netns.js';
import { TcpProxy } from './tcp-proxy.js';
import { type UnixResponse, unixRequest } from './unix-http.js';
import { until } from './until.js';

const PRELOAD = fileURLToPath(new URL('./crash-preload.js', import.meta.url));
const SETTLED_WITHIN_MS = 15_000;

export class CrashWorld implements AsyncDisposable {
  readonly #lab: NetnsLab;
  readonly #netns: TestNetns;
  readonly directory: string;
  /** The other host, whose agent lives in this process. */
  readonly bee: ApiHost;
  /** Between bee and its etcd. */
  readonly line: TcpProxy;
  readonly cluster: CheckedCluster;
  #agent: LocalAgent | undefined;
  #names = 0;
  #reviving: Promise<void> | undefined;

  private constructor(parts: {
    readonly lab: NetnsLab;
    readonly netns: TestNetns;
    readonly bee: ApiHost;
    readonly line: TcpProxy;
    readonly cluster: CheckedCluster;
  }) {
    this.#lab = parts.lab;
    this.#netns = parts.netns;
    this.bee = parts.bee;
    this.line = parts.line;
    this.cluster = parts.cluster;
    this.directory = join(parts.lab.directory, 'ant');
  }

  static async open(etcd: EtcdCluster, prefix: string): Promise<CrashWorld> {
    const lab = await NetnsLab.open();
    const [netns, second] = await lab.hosts('ant', 'bee');
    const line = await TcpProxy.open(etcd.hosts[0] ?? '');
    const bee = await ApiHost.open({
      hosts: [line.url],
      prefix,
      name: 'bee',
      netns: second,
      vtep: '10.99.0.2',
    });
    const directory = join(lab.directory, 'ant');
    const netnsPath = join(directory, 'netns');
    await mkdir(netnsPath, { recursive: true });
    const hosts = [
      namespaceHost('ant', { netns: netns.path, vtep: '10.99.0.1', netnsPath }),
      namespaceHost('bee', {
        netns: second.path,
        vtep: '10.99.0.2',
        netnsPath: `${bee.host.directory}/netns`,
      }),
    ];
    return new CrashWorld({ lab, netns, bee, line, cluster: { etcd, prefix, hosts } });
  }

  get agent(): LocalAgent {
    if (!this.#agent) throw new Error('The agent was never started');
    return this.#agent;
  }

  get dead(): boolean {
    return !this.#agent?.running;
  }

  /** Starts the agent, also over what a killed one left. Armed, it may be dead when this answers. */
  async start(): Promise<void> {
    const { etcd, prefix } = this.cluster;
    await rm(join(this.directory, 'plugin.sock'), { force: true });
    this.#agent = await LocalAgent.start(
      {
        PEER_IP: '10.99.0.1',
        ETCD_HOSTS: etcd.socketHosts.join(','),
        ETCD_PREFIX: prefix,
        SAND_TEST_CRASH: this.#fault,
      },
      {
        directory: this.directory,
        netns: this.#netns.path,
        nodeFlags: ['--import', PRELOAD],
      },
    );
  }

  /** Ends the agent with SIGKILL, wherever it is. */
  async kill(): Promise<void> {
    this.agent.signal('SIGKILL');
    await until(() => this.dead, { what: 'the agent is dead', everyMs: 5 });
    await this.agent[Symbol.asyncDispose]();
  }

  /** Starts the agent again if it is dead. What it does from then on is not counted. */
  revived(): Promise<void> {
    this.#reviving ??= this.#revive().finally(() => {
      this.#reviving = undefined;
    });
    return this.#reviving;
  }

  async #revive(): Promise<void> {
    if (!this.dead && (await this.#isServing())) return;
    await until(() => this.dead, { what: 'the agent is dead', everyMs: 5 });
    await this.agent[Symbol.asyncDispose]();
    await rm(this.#fault, { force: true });
    await this.start();
  }

  /** Dead or about to be: a killed process may be listed for a moment. */
  async #isServing(): Promise<boolean> {
    return this.api('GET', '/version').then(
      ({ status }) => status === 200,
      () => false,
    );
  }

  /** Begins to count steps; the one of this number is the last. */
  async arm(step: number): Promise<void> {
    await rm(`${this.#fault}.trace`, { force: true });
    await writeFile(this.#fault, String(step));
  }

  /** Ends the counting. Gives the steps that were done. */
  async disarm(): Promise<string[]> {
    await rm(this.#fault, { force: true });
    const trace = `${this.#fault}.trace`;
    if (!existsSync(trace)) return [];
    const lines = (await readFile(trace, 'utf8')).trimEnd().split('\n');
    return lines.map(line => line.slice(line.indexOf(' ') + 1));
  }

  /** Waits until nothing is wrong any more, or the agent is dead. */
  async settledOrDead(): Promise<void> {
    const done = async () => this.dead || (await violations(this.cluster)).length === 0;
    await until(done, { timeoutMs: SETTLED_WITHIN_MS, everyMs: 50, what: 'settled or dead' }).catch(
      async error => {
        throw new Error((await violations(this.cluster)).join('\n'), { cause: error });
      },
    );
  }

  untilSound(what: string, reservationMs?: number): Promise<void> {
    const cluster = reservationMs === undefined ? this.cluster : { ...this.cluster, reservationMs };
    return untilSound(cluster, { what, timeoutMs: SETTLED_WITHIN_MS });
  }

  /** The host as `DockerCalls` wants it. */
  path = (): string => join(this.directory, 'plugin.sock');

  /** The file of an overlay namespace that ended with its machine, of a network that nobody knows any more. */
  async leaveStaleFile(): Promise<void> {
    await writeFile(join(this.directory, 'netns', `sc-ns-${crypto.randomUUID()}`), '');
  }

  /** All overlay namespaces end, and leave their files. */
  endNamespaces(): Promise<void> {
    return unmountAll(join(this.directory, 'netns'));
  }

  /** Where containers are is written when they have lived for a moment. */
  async untilSandboxesKnown(count: number): Promise<void> {
    const { etcd, prefix } = this.cluster;
    const known = async () => {
      const records = [...(await etcd.entries(`${prefix}/node-endpoints/ant/`)).values()];
      return records.filter(text => JSON.parse(text).docker && JSON.parse(text).target_netns_path).length;
    };
    await until(async () => (await known()) === count, { what: `${count} sandboxes are recorded` });
  }

  /** A request to the agent's API, over its unix socket. @throws {Error} when it dies before its answer. */
  api(method: 'GET' | 'POST' | 'DELETE', path: string, body?: object): Promise<UnixResponse> {
    return unixRequest({
      socket: join(this.directory, 'run', 'api.sock'),
      method,
      path,
      headers: { 'Content-Type': 'application/json' },
      body: body ? JSON.stringify(body) : '',
    });
  }

  /** Ends the leases of promises: a minute has gone by. */
  async expirePromises(): Promise<void> {
    const { etcd, prefix } = this.cluster;
    const answer = await etcd.ctl('get', `${prefix}/network.bindings/`, '--prefix', '-w', 'json');
    for (const { lease } of JSON.parse(answer).kvs ?? []) {
      if (lease) await etcd.ctl('lease', 'revoke', lease.toString(16));
    }
  }

  /**
   * An hour goes by for this host's reservations and for endpoints without a sandbox, while no agent runs that would
   * take one of two records for old. Answers whether there were any.
   */
  async age(): Promise<boolean> {
    if ((await this.#aged()).length === 0) return false;
    await this.kill();
    for (const [key, value] of await this.#aged())
      await this.cluster.etcd.ctl('put', key, JSON.stringify(value));
    await this.start();
    return true;
  }

  async #aged(): Promise<(readonly [string, object])[]> {
    const { etcd, prefix } = this.cluster;
    const aged: (readonly [string, object])[] = [];
    for (const [key, text] of await etcd.entries(`${prefix}/`)) {
      const value = JSON.parse(text);
      if (value.hostname !== 'ant') continue;
      if (value.kind === 'reservation') aged.push([key, { ...value, at: value.at - 3_600_000 }]);
      if (value.docker && value.target_netns_path === '') {
        const created_at = new Date(Date.parse(value.created_at) - 3_600_000).toISOString();
        aged.push([key, { ...value, created_at }]);
      }
    }
    return aged;
  }

  /** A namespace for an endpoint, on either host. */
  async netns(): Promise<TestNetns> {
    this.#names += 1;
    return this.#lab.netns(`t${this.#names}`);
  }

  /** As Docker does after a join. */
  async move(ifName: string, into: TestNetns): Promise<void> {
    const name = into.path.slice(into.path.lastIndexOf('/') + 1);
    await this.#netns.ip(`link set ${ifName} netns ${name}`);
  }

  removeNetns(netns: TestNetns): Promise<void> {
    return this.#lab.removeNetns(netns);
  }

  get #fault(): string {
    return join(this.directory, 'fault');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent?.[Symbol.asyncDispose]();
    await this.bee[Symbol.asyncDispose]();
    await this.line[Symbol.asyncDispose]();
    await unmountAll(join(this.directory, 'netns'));
    await this.#lab[Symbol.asyncDispose]();
  }
}
