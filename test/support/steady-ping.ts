import type { ChildProcess } from 'node:child_process';
import type { DockerHost } from './docker-host.js';
import { netnsOf } from './sand-lab.js';
import { until } from './until.js';

const EVERY_SECONDS = '0.05';

/** A ping that goes on, 20 times a second, from inside a container's namespace, to see which packets are lost. */
export class SteadyPing {
  readonly #child: ChildProcess;
  #out = '';

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#out += text;
    });
  }

  /** Gives when the first answer is there. */
  static async start(host: DockerHost, container: string, address: string): Promise<SteadyPing> {
    return SteadyPing.within(host, await netnsOf(host, container), address);
  }

  /** The same from any network namespace of the host. */
  static async within(
    host: Pick<DockerHost, 'spawn'>,
    netns: string,
    address: string,
    everySeconds = EVERY_SECONDS,
  ): Promise<SteadyPing> {
    const argv = ['stdbuf', '-oL', 'ping', '-n', '-i', everySeconds, address];
    const steady = new SteadyPing(host.spawn(argv, { netns, stdio: ['ignore', 'pipe', 'ignore'] }));
    await until(() => steady.answered.length > 0, { what: `${netns} reaches ${address}` });
    return steady;
  }

  /** Numbers of the requests that were answered, in order. */
  get answered(): number[] {
    return [...this.#out.matchAll(/icmp_seq=(\d+) ttl/g)].map(match => Number(match[1]));
  }

  /** Waits for some more answers, then ends; gives the numbers of requests before the last answer that got none. */
  async lost(): Promise<number[]> {
    const soFar = this.answered.length;
    await until(() => this.answered.length >= soFar + 5, { what: 'the ping is answered still' });
    await this[Symbol.asyncDispose]();
    const { answered } = this;
    const [first = 1, last = 0] = [answered[0], answered.at(-1)];
    const seen = new Set(answered);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index).filter(n => !seen.has(n));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGINT');
    const ended = () => this.#child.exitCode !== null || this.#child.signalCode !== null;
    await until(ended, { what: 'ping has ended' });
  }
}
