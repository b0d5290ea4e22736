import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ok } from './command.js';
import { startTicksOf } from './sweep.js';
import { unixRequest } from './unix-http.js';
import { until } from './until.js';

export interface MemberPlan {
  readonly name: string;
  readonly clientUrl: string;
  readonly peerUrl: string;
  /** `--initial-cluster`: all members' names and peer URLs. */
  readonly cluster: string;
  readonly directory: string;
  /** Command words before `etcd`: into a network namespace, or none. */
  readonly enter: readonly string[];
  /** Beside those that every member has. */
  readonly moreFlags: Readonly<Record<string, string>>;
}

const HEARTBEAT_MS = 50; // a member alone serves after one election; a busy machine stalls for less than
const ELECTION_MS = 500; // this, so that a cluster of three keeps its leader

/** One etcd server process, its data directory and its log. */
export class EtcdMember {
  readonly clientUrl: string;
  /** Set while it runs: names the process for the guardian. */
  identity: { readonly pid: number; readonly startTicks: string } | undefined;
  readonly #plan: MemberPlan;
  #child: ChildProcess | undefined;

  constructor(plan: MemberPlan) {
    this.#plan = plan;
    this.clientUrl = plan.clientUrl;
  }

  /** Path of the client unix socket: etcd 3.4 takes one only relative to its directory, with a port in its name. */
  get socket(): string {
    return join(this.#plan.directory, 'client.sock:0');
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Starts the process; `untilHealthy` says when it serves. */
  async launch(): Promise<void> {
    await rm(this.socket, { force: true }); // of a run that was killed
    const log = openSync(join(this.#plan.directory, 'log'), 'a');
    const [file = '', ...args] = this.#command();
    const child = spawn(file, args, {
      cwd: this.#plan.directory,
      stdio: ['ignore', log, log],
      detached: true,
    });
    closeSync(log);
    await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
    this.#child = child;
    const { pid } = child;
    const startTicks = pid === undefined ? undefined : await startTicksOf(pid);
    this.identity = pid === undefined || startTicks === undefined ? undefined : { pid, startTicks };
  }

  /** Waits until a linearizable read succeeds. @throws {Error} with the end of its log. */
  async untilHealthy(): Promise<void> {
    const healthy = async () => {
      if (this.#ended()) return 'ended';
      const answer = await unixRequest({ socket: this.socket, path: '/health', timeoutMs: 2_000 });
      return answer.text.includes('"true"') && 'healthy';
    };
    const state = await until(healthy, { timeoutMs: 20_000, what: 'etcd serves' }).catch(String);
    if (state === 'healthy') return;
    throw new Error(`etcd ${this.#plan.name} does not serve (${state}): ${(await this.log()).slice(-2_000)}`);
  }

  signal(signal: NodeJS.Signals): void {
    if (!this.#ended()) this.#child?.kill(signal);
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await until(() => this.#ended(), { what: `etcd ${this.#plan.name} has ended` });
    this.identity = undefined;
  }

  /** Its data are those of a backup, `etcdctl snapshot save`, from its next start on. It must have ended. */
  async restore(backup: string): Promise<void> {
    const { name, peerUrl, cluster, directory } = this.#plan;
    const data = join(directory, 'data');
    await rm(data, { recursive: true, force: true });
    const as = [`--name=${name}`, `--initial-cluster=${cluster}`, `--initial-cluster-token=${cluster}`];
    const flags = [...as, `--initial-advertise-peer-urls=${peerUrl}`, `--data-dir=${data}`];
    await ok(['etcdctl', 'snapshot', 'restore', backup, ...flags], { env: { ETCDCTL_API: '3' } });
  }

  log(): Promise<string> {
    return readFile(join(this.#plan.directory, 'log'), 'utf8');
  }

  #ended(): boolean {
    const child = this.#child;
    return !child || child.exitCode !== null || child.signalCode !== null;
  }

  #command(): string[] {
    const { name, clientUrl, peerUrl, cluster, enter, moreFlags } = this.#plan;
    const flags = {
      name,
      'data-dir': 'data',
      'listen-client-urls': `${clientUrl},unix://client.sock:0`,
      'advertise-client-urls': clientUrl,
      'listen-peer-urls': peerUrl,
      'initial-advertise-peer-urls': peerUrl,
      'initial-cluster': cluster,
      'initial-cluster-token': cluster,
      'heartbeat-interval': HEARTBEAT_MS,
      'election-timeout': ELECTION_MS,
      logger: 'zap',
      ...moreFlags,
    };
    return [...enter, 'etcd', ...Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`)];
  }
}
