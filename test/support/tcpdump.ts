import type { ChildProcess } from 'node:child_process';
import type { HostNamespaces, InsideOptions } from './host-namespaces.js';
import { until } from './until.js';

export interface CaptureOptions extends InsideOptions {
  /** `eth0`, or `any`. */
  readonly interface: string;
  /** In tcpdump's language: `udp port 4789`. */
  readonly filter?: string;
  /** More of tcpdump's options: `['-e']` shows MAC addresses. */
  readonly flags?: readonly string[];
}

/** A running tcpdump; its text is there as soon as the packets are. */
export class Capture {
  readonly #child: ChildProcess;
  #out = '';
  #err = '';

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#out += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#err += text;
    });
  }

  /** Gives when tcpdump listens: no later packet is missed. */
  static async start(host: HostNamespaces, options: CaptureOptions): Promise<Capture> {
    const { interface: device, filter = '', flags = [], netns } = options;
    // -l: line by line; -n: no names; --immediate-mode: no waiting for a full buffer
    const argv = ['tcpdump', '-l', '-n', '--immediate-mode', '-i', device, ...flags, '--', filter];
    const child = host.spawn(argv, {
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(netns === undefined ? {} : { netns }),
    });
    const capture = new Capture(child);
    const listening = () => capture.#err.includes('listening on') || capture.#ended;
    await until(listening, { what: 'tcpdump listens', everyMs: 5 });
    if (capture.#ended) throw new Error(`tcpdump -i ${device} ${filter}: ${capture.#err.trim()}`);
    return capture;
  }

  /** What was captured so far, a line a packet (more with `-x`). */
  get lines(): string[] {
    return this.#out.split('\n').filter(line => line !== '');
  }

  /** Ends the capture and gives all its lines. */
  async stop(): Promise<string[]> {
    const closed = new Promise(resolve => this.#child.once('close', resolve));
    if (!this.#ended) {
      this.#child.kill('SIGINT');
      await closed;
    }
    return this.lines;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  get #ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }
}
