/** The real agent as a child on this machine, without Docker: every path of its own is in one temporary directory. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { DATA_PLANE_ENV } from './data-plane.js';
import { freePorts } from './etcd.js';
import { protect } from './guardian.js';
import { unmountAll } from './netns.js';
import { startTicksOf } from './sweep.js';
import { until } from './until.js';

export const AGENT_MAIN = fileURLToPath(new URL('../../daemon/main.js', import.meta.url));

/** What is garbage is nobody's leak: an agent with these flags collects it before its memory is measured. */
const MEASURED_FLAGS = ['--expose-gc', '--import', 'data:text/javascript,process.on("SIGUSR2", () => gc())'];
const COLLECTED_AFTER_MS = 1_000;

export interface LocalAgentOptions {
  /** Kept when the agent ends; default: a directory of its own, which goes with it. */
  readonly directory?: string;
  /** Path of the network namespace that it runs in. */
  readonly netns?: string;
  /** Node's own flags. */
  readonly nodeFlags?: readonly string[];
  /** Whether its memory is to be measured. */
  readonly measured?: boolean;
}

export class LocalAgent implements AsyncDisposable {
  /** Holds all its files; sockets are `plugin.sock` and `run/api.sock`. */
  readonly directory: string;
  readonly apiPort: number;
  readonly pluginPort: number;
  readonly #child: ChildProcess;
  readonly #release: () => void;
  readonly #keep: boolean;
  readonly #measured: boolean;
  #log = '';

  private constructor(
    directory: string,
    ports: readonly number[],
    rest: { child: ChildProcess; release: () => void; keep: boolean; measured: boolean },
  ) {
    this.directory = directory;
    [this.apiPort = 0, this.pluginPort = 0] = ports;
    this.#child = rest.child;
    this.#release = rest.release;
    this.#keep = rest.keep;
    this.#measured = rest.measured;
    for (const stream of [rest.child.stdout, rest.child.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        this.#log += chunk.toString();
      });
    }
  }

  /** Starts it, in a network namespace where one is given, and waits until its API's unix socket is served. */
  static async start(
    env: Readonly<Record<string, string>>,
    options: LocalAgentOptions = {},
  ): Promise<LocalAgent> {
    const { netns, nodeFlags = [], measured = false } = options;
    const directory = options.directory ?? (await mkdtemp(join(tmpdir(), 'sand-agent-')));
    const keep = options.directory !== undefined;
    const directories = keep ? [] : [directory];
    const protection = await protect({ directories });
    const ports = await freePorts('127.0.0.1', 2, true);
    const own = {
      ...DATA_PLANE_ENV,
      PEER_IP: '127.0.0.1',
      PEER_HOSTNAME: 'ant',
      HTTP_PORT: String(ports[0]),
      DOCKER_PLUGIN_HTTP_PORT: String(ports[1]),
      NETNS_PATH: join(directory, 'netns'),
      SAND_STATE_DIR: join(directory, 'state'),
      SAND_RUN_DIR: join(directory, 'run'),
      SAND_PLUGIN_SOCKET: join(directory, 'plugin.sock'),
    };
    const flags = [...nodeFlags, ...(measured ? MEASURED_FLAGS : [])];
    const program = [process.execPath, ...flags, AGENT_MAIN];
    const [file = '', ...args] = netns ? ['nsenter', `--net=${netns}`, '--', ...program] : program;
    const child = spawn(file, args, {
      env: { PATH: process.env['PATH'], ...own, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const agent = new LocalAgent(directory, ports, {
      child,
      release: protection.release,
      keep,
      measured,
    });
    const pid = child.pid ?? 0;
    const processes = [{ pid, startTicks: (await startTicksOf(pid)) ?? '' }];
    await protection.update({ directories, processes });
    // One that is to log errors alone does not say so.
    const served = () =>
      env['LOG_LEVEL'] === 'error'
        ? existsSync(join(directory, 'run/api.sock'))
        : agent.log.includes('TCP port served door=api');
    const ready = () => served() || !agent.running;
    await until(ready, { timeoutMs: 15_000, what: 'the agent serves its API' });
    if (agent.running || agent.killed) return agent;
    await agent[Symbol.asyncDispose]();
    throw new Error(`The agent ended: ${agent.log}`);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Whether it was ended by SIGKILL, which it cannot have wanted. */
  get killed(): boolean {
    return this.#child.signalCode === 'SIGKILL';
  }

  /** What it has printed. */
  get log(): string {
    return this.#log;
  }

  /** Lines of the log that hold the text. */
  lines(text: string): string[] {
    return this.#log.split('\n').filter(line => line.includes(text));
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Without garbage. @throws {Error} unless it was started to be measured. */
  async residentMegabytes(): Promise<number> {
    if (!this.#measured) throw new Error('The agent was not started to be measured');
    this.signal('SIGUSR2');
    await sleep(COLLECTED_AFTER_MS);
    const status = await readFile(`/proc/${this.pid}/status`, 'utf8').catch(() => '');
    return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1_024);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.running) {
      const ended = once(this.#child, 'exit');
      this.#child.kill('SIGTERM');
      await ended;
    }
    if (!this.#keep) {
      const overlays = join(this.directory, 'netns');
      if (existsSync(overlays)) await unmountAll(overlays);
      await rm(this.directory, { recursive: true, force: true });
    }
    this.#release();
  }
}
