/** The processes that hold the simulated agents, as one: each question goes to all, and to whom it concerns. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { times } from './row.js';
import type { KernelSum } from './scale-cluster.js';

const PROGRAM = fileURLToPath(new URL('./scale-agents.js', import.meta.url));

export interface AgentState {
  readonly host: string;
  readonly revision: number;
  /** From its start to its first snapshot; undefined: not yet. */
  readonly knowsMs: number | undefined;
  readonly networks: number;
  readonly held: boolean;
  readonly messages: number;
  readonly reconciles: number;
}

class AgentProcess {
  readonly child: ChildProcess;
  readonly #waiting = new Map<number, { resolve(result: never): void; reject(error: Error): void }>();
  #next = 0;

  /** It ends with the channel to us, however we end. */
  constructor(etcd: string, directory: string) {
    const profile = process.env['PROFILE'] ?? '';
    const profiling = profile === '' ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`];
    this.child = fork(PROGRAM, [etcd, directory], { execArgv: ['--expose-gc', ...profiling] });
    this.child.on('message', ({ id, result, error }: { id: number; result: never; error?: string }) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) waiting?.reject(new Error(error));
      else waiting?.resolve(result);
    });
    this.child.once('exit', code => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`agents ended with ${code}`));
    });
  }

  ask<T>(question: string, argument?: unknown): Promise<T> {
    const id = this.#next++;
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.child.send({ id, question, argument });
    });
  }
}

export class AgentProcesses implements AsyncDisposable {
  readonly #all: AgentProcess[];

  constructor(count: number, etcd: string, directory: string) {
    this.#all = times(count).map(() => new AgentProcess(etcd, directory));
  }

  get pids(): number[] {
    return this.#all.flatMap(({ child }) => child.pid ?? []);
  }

  /** Agents of these numbers, each in the process that its number chooses; all at once. */
  async start(numbers: readonly number[]): Promise<void> {
    await Promise.all(
      this.#all.map((each, index) =>
        each.ask(
          'start',
          numbers.filter(n => n % this.#all.length === index),
        ),
      ),
    );
  }

  states = () => this.#flat<AgentState>('state');
  sums = () => this.#flat<KernelSum & { readonly host: string }>('sums');
  stop = () => this.#each<void>('stop');
  memory = () => this.#each<NodeJS.MemoryUsage>('memory');

  async heard(id: string, mac: string): Promise<{ heard: number[]; applied: number[] }> {
    const all = await this.#each<{ heard: number[]; applied: number[] }>('heard', [id, mac]);
    return { heard: all.flatMap(each => each.heard), applied: all.flatMap(each => each.applied) };
  }

  /** Processor time of all of them, in milliseconds. */
  async cpuMs(): Promise<number> {
    const all = await this.#each<NodeJS.CpuUsage>('cpu');
    return all.reduce((sum, { user, system }) => sum + (user + system) / 1000, 0);
  }

  /** Lines at warn and error since the last question, with how often each came. */
  async problems(): Promise<Map<string, number>> {
    const sums = new Map<string, number>();
    for (const [line, count] of await this.#flat<[string, number]>('problems')) {
      sums.set(line, (sums.get(line) ?? 0) + count);
    }
    return sums;
  }

  signal(signal: NodeJS.Signals): void {
    for (const { child } of this.#all) child.kill(signal);
  }

  #each<T>(question: string, argument?: unknown): Promise<T[]> {
    return Promise.all(this.#all.map(each => each.ask<T>(question, argument)));
  }

  async #flat<T>(question: string): Promise<T[]> {
    return (await this.#each<T[]>(question)).flat();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      this.#all.map(({ child }) => {
        const ended = new Promise(resolve => child.once('exit', resolve));
        if (child.exitCode !== null || child.signalCode !== null) return undefined;
        child.kill('SIGCONT');
        child.disconnect();
        setTimeout(() => child.kill('SIGKILL'), 3_000).unref();
        return ended;
      }),
    );
  }
}
