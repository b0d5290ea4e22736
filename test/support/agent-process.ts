import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DaemonProcess, type Ending } from './daemon-process.js';
import { DATA_PLANE_ENV } from './data-plane.js';
import type { DockerHost } from './docker-host.js';
import { unixRequest } from './unix-http.js';

export interface AgentOptions {
  /** Flags as in `['--etcd-hosts', 'http://10.78.0.1:2379']`. */
  readonly flags?: readonly string[];
  /** Added to the environment: `ETCD_HOSTS` and the like. */
  readonly env?: Readonly<Record<string, string>>;
  /** How long until its plugin socket answers, default 15,000. */
  readonly timeoutMs?: number;
  /** The agent's program, default this repository's compiled `daemon/main.js`. */
  readonly main?: string;
}

export interface PluginAnswer {
  readonly status: number;
  /** Parsed, or the text where it is no JSON. */
  readonly body: unknown;
  readonly ms: number;
}

const MAIN = fileURLToPath(new URL('../../daemon/main.js', import.meta.url));
const PLUGIN_SOCKET = '/run/docker/plugins/sand.sock';
// What dockerd 20.10 sends: an Accept of its own, no Content-Type, and a Host that is empty
const DOCKERD_HEADERS = {
  Accept: 'application/vnd.docker.plugins.v1.2+json',
  'User-Agent': 'Go-http-client/1.1',
  Host: '',
};

/** Anything with a plugin socket. */
export type PluginHost = Pick<DockerHost, 'path'>;

/**
 * One plugin call from this process, as dockerd would make it on that host. A body that is a string goes out
 * as it is, any other as JSON; without one the request's body is empty.
 * @throws {Error} when nothing listens or no whole answer comes.
 */
export async function pluginCall(
  host: PluginHost,
  method: string,
  body?: unknown,
  { timeoutMs = 60_000 } = {},
): Promise<PluginAnswer> {
  const text = typeof body === 'string' ? body : body === undefined ? '' : JSON.stringify(body);
  const answer = await unixRequest({
    socket: host.path(PLUGIN_SOCKET),
    method: 'POST',
    path: `/${method}`,
    headers: DOCKERD_HEADERS,
    body: text,
    timeoutMs,
  });
  return { status: answer.status, body: parse(answer.text), ms: answer.ms };
}

/** The real agent as a child inside a host of the lab. Whoever started it disposes of it; the lab's end kills it too. */
export class AgentProcess {
  /** From its start to the first answer on the plugin socket. */
  readonly startMs: number;
  readonly #process: DaemonProcess;

  private constructor(daemon: DaemonProcess, startMs: number) {
    this.#process = daemon;
    this.startMs = startMs;
  }

  /** Starts the agent and waits until it answers `Plugin.Activate`. @throws {Error} with the end of its log. */
  static async start(host: DockerHost, options: AgentOptions = {}): Promise<AgentProcess> {
    const { flags = [], env = {}, timeoutMs = 15_000, main = MAIN } = options;
    const logs = join(host.root, 'agent');
    await mkdir(logs, { recursive: true });
    await rm(host.path(PLUGIN_SOCKET), { force: true }); // of an agent that was killed: no answer may come from it
    const startedAt = performance.now();
    const daemon = await DaemonProcess.start(host.namespaces, {
      what: `the agent on ${host.name}`,
      argv: [process.execPath, main, ...flags],
      logFile: join(logs, `${Date.now()}-${startedAt.toFixed(0)}.log`),
      env: { ...DATA_PLANE_ENV, ...env },
    });
    const activated = () => pluginCall(host, 'Plugin.Activate', undefined, { timeoutMs: 2_000 });
    try {
      await daemon.untilReady(async () => (await activated()).status === 200, timeoutMs);
    } catch (error) {
      await daemon.stop('SIGKILL');
      throw error;
    }
    return new AgentProcess(daemon, performance.now() - startedAt);
  }

  get pid(): number {
    return this.#process.pid;
  }

  get running(): boolean {
    return this.#process.running;
  }

  /** SIGTERM, and waits for the end; how long that took is in the answer. SIGKILL follows after 20 s, as `signal` then tells. */
  stop(): Promise<Ending> {
    return this.#process.stop('SIGTERM', 20_000);
  }

  /** SIGKILL: nothing is cleaned up. */
  kill(): Promise<Ending> {
    return this.#process.stop('SIGKILL');
  }

  /** SIGSTOP, SIGCONT and others. */
  signal(signal: NodeJS.Signals): void {
    this.#process.signal(signal);
  }

  /** Standard output and standard error of this run. */
  log(): Promise<string> {
    return this.#process.log();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.running) await this.stop();
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
