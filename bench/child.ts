/** A child that answers each line on its standard input by one line: the floors, and our own kernel worker. */
import type { ChildProcess } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';

export class LineChild implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  readonly #waiting: { resolve(line: string): void; reject(error: Error): void }[] = [];
  #stderr = '';

  /** `child` has pipes for all three streams. */
  constructor(child: ChildProcess) {
    const { stdin, stdout, stderr } = child;
    if (!stdin || !stdout || !stderr) throw new Error('A LineChild needs three pipes');
    this.#child = child;
    this.#lines = createInterface({ input: stdout });
    this.#lines.on('line', line => this.#waiting.shift()?.resolve(line));
    stdin.on('error', () => undefined); // its end says why
    stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    child.once('error', error => this.#failed(error));
    child.once('close', code => this.#failed(new Error(`ended with ${code}: ${this.#stderr.trim()}`)));
  }

  ask(line: string): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#child.stdin?.write(`${line}\n`);
    });
  }

  #failed(error: Error): void {
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const closed = new Promise(resolve => this.#child.once('close', resolve));
    this.#child.stdin?.end();
    await Promise.race([closed, new Promise(resolve => setTimeout(resolve, 2_000).unref())]);
    this.#child.kill('SIGKILL');
  }
}
