/**
 * Hosts without Docker: namespaces on one switch, with etcd beside it, and real agents as children. The benchmark
 * itself plays dockerd, over the same unix socket.
 */
import { mkdir, mkdtemp, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { someAtOnce } from '../model/some-at-once.js';
import { StoreClient } from '../store/client.js';
import { Keys } from '../store/keys.js';
import { ok, run } from '../test/support/command.js';
import { DaemonProcess } from '../test/support/daemon-process.js';
import { type EtcdCluster, startEtcd } from '../test/support/etcd.js';
import { protect } from '../test/support/guardian.js';
import { HostNamespaces } from '../test/support/host-namespaces.js';
import { namespacePath, sweep } from '../test/support/sweep.js';
import { until } from '../test/support/until.js';
import { agentProgram } from './agent-program.js';
import { ApiClient } from './api-client.js';
import { PluginClient } from './plugin-client.js';
import { times } from './row.js';

const API_SOCKET = '/run/sand/api.sock';
const PLUGIN_SOCKET = '/run/docker/plugins/sand.sock';
const PREFIX = '10.79.0';
const PATIENCE_MS = 30_000;
const POLL_MS = 2;
export const AT_ONCE = 4; // hosts and agents that are set up together: more only wait for a processor

export const KEYS = new Keys('/sc-net');

export interface BenchHost {
  readonly name: string;
  readonly address: string;
  readonly root: string;
  readonly namespaces: HostNamespaces;
}

export interface LabOptions {
  /** Of the underlay; default 1500. */
  readonly mtu?: number;
}

export interface AgentOptions {
  /** Node's own. */
  readonly nodeFlags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** When it counts as started; default: when it serves, which is found out by asking it, and costs it time. */
  readonly awaited?: 'plugin socket' | 'service';
}

/** A real agent in its own process; its socket is kept open as dockerd keeps it. */
export class BenchAgent implements AsyncDisposable {
  private constructor(
    readonly host: BenchHost,
    readonly process: DaemonProcess,
    readonly plugin: PluginClient,
    /** From the start of the process to the first answer of Plugin.Activate. */
    readonly startMs: number,
  ) {}

  static async start(host: BenchHost, etcd: string, options: AgentOptions = {}): Promise<BenchAgent> {
    const { nodeFlags = [], env = {}, awaited = 'service' } = options;
    const profile = profiling();
    const program = await agentProgram(profile.length > 0);
    const flags = ['--etcd-hosts', etcd, '--peer-ip', host.address, '--state-dir', join(host.root, 'state')];
    const startedAt = performance.now();
    const daemon = await DaemonProcess.start(host.namespaces, {
      what: `the agent on ${host.name}`,
      argv: [process.execPath, ...profile, ...nodeFlags, program, '--peer-hostname', host.name, ...flags],
      logFile: join(host.root, 'agent.log'),
      env: { ...process.env, ...env },
    });
    const plugin = new PluginClient(host.namespaces.path(PLUGIN_SOCKET));
    for (;;) {
      const answered = await plugin.call('Plugin.Activate', '').catch(() => undefined);
      if (answered) break;
      if (!daemon.running || performance.now() - startedAt > PATIENCE_MS) {
        const log = (await daemon.log()).slice(-2_000);
        await daemon.stop('SIGKILL');
        throw new Error(`The agent on ${host.name} does not answer; its log ends:\n${log}`);
      }
      await sleep(POLL_MS);
    }
    const agent = new BenchAgent(host, daemon, plugin, performance.now() - startedAt);
    if (awaited === 'service') await agent.#untilServing();
    return agent;
  }

  /** Docker's calls are refused for as long as etcd has not confirmed the host's name. */
  async #untilServing(): Promise<void> {
    const client = new ApiClient(this.host.namespaces.path(API_SOCKET));
    const serving = async () => (await client.status()).name.state === 'held';
    const what = `the agent on ${this.host.name} has its name`;
    await until(serving, { what, everyMs: 20, timeoutMs: PATIENCE_MS });
    client.close();
  }

  /** Another connection of its own, as another thread of dockerd would have. */
  connect(): PluginClient {
    return new PluginClient(this.host.namespaces.path(PLUGIN_SOCKET));
  }

  get pid(): number {
    return this.process.pid;
  }

  /** A connection to the HTTP API of its own. */
  api(): ApiClient {
    return new ApiClient(this.host.namespaces.path(API_SOCKET));
  }

  /** Resident memory in MB (10^6 bytes). */
  async residentMb(): Promise<number> {
    const status = await readFile(`/proc/${this.process.pid}/status`, 'utf8');
    const [, kilobytes = 'NaN'] = /^VmRSS:\s+(\d+) kB/m.exec(status) ?? [];
    return (Number(kilobytes) * 1024) / 1e6;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.plugin.close();
    if (this.process.running) await this.process.stop('SIGTERM', 5_000);
  }
}

export class BenchLab implements AsyncDisposable {
  private constructor(
    readonly hosts: readonly BenchHost[],
    readonly etcd: EtcdCluster,
    /** Through the same client library as the agents', for floors and seeds. */
    readonly store: StoreClient,
    readonly root: string,
    readonly stop: () => Promise<void>,
  ) {}

  static async start(count: number, { mtu = 1_500 }: LabOptions = {}): Promise<BenchLab> {
    const root = await mkdtemp(join(tmpdir(), `sandbench-${process.pid}-`));
    const name = `sandbench-${process.pid}-${root.slice(-6)}`;
    const names = Array.from({ length: count }, (_, index) => `${name}-${index + 1}`);
    const claim = { namespaces: [`${name}-sw`, ...names], directories: [root] };
    const { release } = await protect(claim);
    try {
      await makeSwitch(`${name}-sw`, names, mtu);
      const etcd = await startEtcd();
      const hosts = await someAtOnce(names, AT_ONCE, (each, index) => makeHost(each, index, root));
      const store = new StoreClient({ hosts: etcd.socketHosts });
      // etcd ends a connection that is kept alive without a stream: "too many pings"
      (await store.openWatch()).on('error', () => undefined);
      const stop = async () => {
        await store[Symbol.asyncDispose]();
        await sweep(claim);
        await etcd.stop();
        release();
      };
      return new BenchLab(hosts, etcd, store, root, stop);
    } catch (error) {
      await sweep(claim);
      throw error;
    }
  }

  host(index: number): BenchHost {
    const host = this.hosts[index];
    if (!host) throw new Error(`No host ${index}`);
    return host;
  }

  /** etcd on its unix socket, which every host reaches: as with an embedded one. */
  get etcdAddress(): string {
    return this.etcd.socketHosts.join(',');
  }

  startAgent(index = 0, options: AgentOptions = {}): Promise<BenchAgent> {
    return BenchAgent.start(this.host(index), this.etcdAddress, options);
  }

  /** Agents on the hosts `from` to `to`, without that. */
  startAgents(from: number, to: number): Promise<BenchAgent[]> {
    const indexes = times(to - from).map(index => from + index);
    return someAtOnce(indexes, AT_ONCE, index => this.startAgent(index));
  }

  [Symbol.asyncDispose] = () => this.stop();
}

/** PROFILE=directory: every agent that ends in an orderly way leaves CPU profiles of its threads there. */
function profiling(): string[] {
  const directory = process.env['PROFILE'] ?? '';
  return directory === '' ? [] : ['--cpu-prof', `--cpu-prof-dir=${resolve(directory)}`];
}

/** Namespaces as containers have one, below the host's /run/netns; answers their paths. */
export async function makeTargets(
  { namespaces }: BenchHost,
  count: number,
  prefix = 'target',
): Promise<string[]> {
  const names = times(count).map(index => `${prefix}-${index}`);
  await namespaces.exec(['ip', '-batch', '-'], { input: names.map(name => `netns add ${name}`).join('\n') });
  return names.map(name => `/run/netns/${name}`);
}

async function makeHost(name: string, index: number, parent: string): Promise<BenchHost> {
  const root = join(parent, name);
  await mkdir(join(root, 'cgroup'), { recursive: true });
  const address = `${PREFIX}.${11 + index}`;
  const namespaces = await HostNamespaces.open({ name, root, interfaceAddress: `${address}/24` });
  return { name, address, root, namespaces };
}

async function makeSwitch(namespace: string, hosts: readonly string[], mtu: number): Promise<void> {
  const namespaces = [namespace, ...hosts].map(name => `netns add ${name}`);
  const cables = hosts.map(
    (name, index) =>
      `link add port${index + 1} mtu ${mtu} netns ${namespace} type veth peer name eth0 mtu ${mtu} netns ${name}`,
  );
  await ok(['ip', '-batch', '-'], { input: [...namespaces, ...cables].join('\n') });
  const ports = hosts.map((_, index) => `link set port${index + 1} master br0 up`);
  const inside = ['link set lo up', 'link add br0 type bridge', 'link set br0 up', ...ports];
  await ok(['ip', '-n', namespace, '-batch', '-'], { input: inside.join('\n') });
  // Absent where br_netfilter is not loaded
  const setting = '/proc/sys/net/bridge/bridge-nf-call-iptables';
  await run(['nsenter', `--net=${namespacePath(namespace)}`, 'tee', setting], { input: '0' });
}
