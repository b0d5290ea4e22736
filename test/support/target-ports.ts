import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** Each is a manner of target-main.ts. */
export const PORTS = {
  /** Sends back what comes, to its end. */
  echo: 7001,
  /** Says `hello` and a line feed first, then as echo. */
  greet: 7002,
  /** Reads to the end, then answers with the digest of what came. */
  digest: 7003,
  /** Takes a number of bytes, sends as many of the pattern, and ends. */
  source: 7004,
  /** Says `bye` and ends, then reads to the end. */
  farewell: 7005,
  /** Answers the digest of what the last one of `farewell` sent. */
  farewells: 7006,
  /** Resets the connection when something comes. */
  reset: 7007,
} as const;

const MAIN = fileURLToPath(new URL('./target-main.js', import.meta.url));

/** The servers in a namespace, as a child of this process. */
export class Targets implements AsyncDisposable {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** @param enter command that leads to the namespace, such as `['nsenter', '--net=…', '--']` */
  static async start(enter: readonly string[]): Promise<Targets> {
    const [file = '', ...args] = [...enter, process.execPath, MAIN];
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = once(child, 'exit').then(([code]) => {
      throw new Error(`The targets ended with ${code}`);
    });
    await Promise.race([once(child.stdout, 'data'), ended]);
    ended.catch(() => undefined);
    return new Targets(child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}
