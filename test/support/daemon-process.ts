import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { HostNamespaces } from './host-namespaces.js';
import { until } from './until.js';

/** How a daemon ended. */
export interface Ending {
  /** From the signal to the end. */
  readonly ms: number;
  /** Exit code; null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface DaemonPlan {
  /** For messages. */
  readonly what: string;
  readonly argv: readonly string[];
  readonly logFile: string;
  readonly env?: NodeJS.ProcessEnv;
}

/** A long-running child inside a host, with its log in a file. It leads a session of its own: no Ctrl-C reaches it. */
export class DaemonProcess {
  readonly #plan: DaemonPlan;
  readonly #child: ChildProcess;

  private constructor(plan: DaemonPlan, child: ChildProcess) {
    this.#plan = plan;
    this.#child = child;
  }

  /** Starts it; what it prints is appended to the log file. */
  static async start(host: HostNamespaces, plan: DaemonPlan): Promise<DaemonProcess> {
    const log = openSync(plan.logFile, 'a');
    const env = { ...process.env, ...plan.env };
    const child = host.spawn(plan.argv, { stdio: ['ignore', log, log], detached: true, env });
    closeSync(log);
    child.unref();
    await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
    return new DaemonProcess(plan, child);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** @throws {Error} with the last errors and the end of the log, when `ready` does not come true in time or the process ends before. */
  async untilReady(ready: () => Promise<unknown>, timeoutMs: number): Promise<void> {
    const { what } = this.#plan;
    try {
      const state = await until(async () => (this.running ? (await ready()) && 'ready' : 'ended'), {
        timeoutMs,
        what: `${what} answers`,
      });
      if (state === 'ended')
        throw new Error(`${what} ended with ${this.#child.exitCode ?? this.#child.signalCode}`);
    } catch (cause) {
      const log = await this.log();
      const complaints = log.match(/.*level=(?:error|fatal).*/g) ?? []; // a trace at the end may hide them
      const facts = [...complaints.slice(-10), 'its log ends:', log.slice(-4_000)].join('\n');
      throw new Error(`${(cause as Error).message}; ${facts}`, { cause });
    }
  }

  /** Sends the signal and waits for the end; SIGKILL follows after `patienceMs`. Idempotent. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', patienceMs = 40_000): Promise<Ending> {
    const startedAt = performance.now();
    const gone = () => !this.running;
    this.#child.kill(signal);
    await until(gone, { timeoutMs: patienceMs, everyMs: 5 }).catch(() => this.#child.kill('SIGKILL'));
    await until(gone, { what: `${this.#plan.what} has ended`, everyMs: 5 });
    const { exitCode, signalCode } = this.#child;
    return { ms: performance.now() - startedAt, code: exitCode, signal: signalCode };
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  log(): Promise<string> {
    return readFile(this.#plan.logFile, 'utf8');
  }
}
