/**
 * Hears of forwarding entries in one namespace: a child there listens to rtnetlink (fdb-monitor.c, with the kernel's clock;
 * `bridge monitor fdb` where no compiler is), so that nothing polls the kernel.
 */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../test/support/until.js';
import type { BenchHost } from './lab.js';

const PATIENCE_MS = 30_000;
type Verb = 'add' | 'del';

export const monotonicMs = () => Number(process.hrtime.bigint()) / 1e6;

export class FdbListener implements Disposable {
  /** `add MAC` → when it was last heard. */
  readonly #heardAt = new Map<string, number>();
  readonly #waiting = new Map<string, (at: number) => void>();
  readonly #child: ChildProcess;

  private constructor(
    /** For the table. */
    readonly how: string,
    child: ChildProcess,
  ) {
    this.#child = child;
  }

  /** @param program fdb-monitor, compiled, where a compiler is */
  static async open(
    { namespaces }: BenchHost,
    netns: string,
    program: string | undefined,
  ): Promise<FdbListener> {
    const argv = program ? [program] : ['bridge', 'monitor', 'fdb'];
    const child = namespaces.spawn(argv, { stdio: ['ignore', 'pipe', 'inherit'], netns });
    const listener = new FdbListener(program ? 'an rtnetlink listener' : 'bridge monitor', child);
    if (!child.stdout) throw new Error('The listener has no output');
    let ready = !program;
    createInterface({ input: child.stdout }).on('line', line => {
      if (line === 'ready') ready = true;
      else listener.#heard(line);
    });
    await until(() => ready, { what: 'the rtnetlink listener listens', everyMs: 5 });
    if (!program) await sleep(300); // it does not say when it listens
    return listener;
  }

  /** When the entry of that MAC came, on CLOCK_MONOTONIC in milliseconds. */
  added = (mac: string) => this.#when('add', mac);

  /** When it went. */
  removed = (mac: string) => this.#when('del', mac);

  #when(verb: Verb, mac: string): Promise<number> {
    const key = `${verb} ${mac}`;
    const at = this.#heardAt.get(key);
    if (at !== undefined) return Promise.resolve(at);
    return new Promise((resolve, reject) => {
      const late = () => reject(new Error(`Not heard after ${PATIENCE_MS} ms: ${key}`));
      const timer = setTimeout(late, PATIENCE_MS);
      this.#waiting.set(key, time => {
        clearTimeout(timer);
        resolve(time);
      });
    });
  }

  #heard(line: string): void {
    const [, time = '', exactVerb = '', exactMac = ''] = /^(\d+) (add|del) (\S+)$/.exec(line) ?? [];
    const [, deleted = '', plainMac = ''] = /^(Deleted )?(\S+) dev vxlan0/.exec(line) ?? [];
    const mac = exactMac || plainMac;
    const verb = exactVerb || (deleted === '' ? 'add' : 'del');
    const at = time === '' ? monotonicMs() : Number(time) / 1e6;
    this.#heardAt.delete(`${verb === 'add' ? 'del' : 'add'} ${mac}`);
    this.#heardAt.set(`${verb} ${mac}`, at);
    this.#waiting.get(`${verb} ${mac}`)?.(at);
    this.#waiting.delete(`${verb} ${mac}`);
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL');
  }
}
