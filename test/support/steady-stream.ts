import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { DockerHost } from './docker-host.js';
import { until } from './until.js';

const MAIN = fileURLToPath(new URL('stream-main.js', import.meta.url));

export interface StreamEnd {
  readonly host: DockerHost;
  readonly netns: string;
}

/** One TCP connection that is never made anew: 100 lines a second, answered by the other side. */
export class SteadyStream {
  readonly #children: readonly [server: ChildProcess, client: ChildProcess];
  #out = '';
  #lastAt = performance.now();
  #longestGapMs = 0;

  private constructor(children: readonly [ChildProcess, ChildProcess]) {
    this.#children = children;
    children[1].stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#out += text;
      this.#longestGapMs = Math.max(this.#longestGapMs, performance.now() - this.#lastAt);
      this.#lastAt = performance.now();
    });
  }

  /** Gives when the first answers are there. */
  static async start(from: StreamEnd, to: StreamEnd & { readonly address: string }, port = 7777) {
    const run = ({ host, netns }: StreamEnd, ...args: readonly string[]) =>
      host.spawn([process.execPath, MAIN, ...args], { netns, stdio: ['ignore', 'pipe', 'inherit'] });
    const server = run(to, 'serve', String(port));
    const listening = () => to.host.exec(['ss', '-Hltn', `sport = :${port}`], { netns: to.netns });
    await until(listening, { what: 'the stream has a server' });
    const stream = new SteadyStream([server, run(from, 'send', to.address, String(port))]);
    await until(() => stream.received > 3, { what: `a stream to ${to.address} flows` });
    return stream;
  }

  get received(): number {
    return this.#out.split('\n').length - 1;
  }

  /** The longest time without an answer so far. */
  get longestGapMs(): number {
    return this.#longestGapMs;
  }

  /** Waits until it has gone on for a while; true when all lines so far came, in order. */
  async isWhole(): Promise<boolean> {
    const soFar = this.received;
    await until(() => this.received > soFar + 20, { what: 'the stream flows still' });
    const lines = this.#out.split('\n').slice(0, -1);
    return lines.every((line, n) => Number.parseInt(line, 10) === n);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    const ended = () =>
      this.#children.every(({ exitCode, signalCode }) => exitCode !== null || signalCode !== null);
    await until(ended, { what: 'the stream has ended' });
  }
}
