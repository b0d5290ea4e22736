/** The kernel's own limits: floor.c where a compiler is, `ip -batch` where none is (five times slower, and said so). */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ok } from '../test/support/command.js';
import { LineChild } from './child.js';
import type { BenchHost } from './lab.js';
import { hasProgram } from './requirements.js';
import { times } from './row.js';

const source = (name: string) => fileURLToPath(new URL(`../../bench/${name}`, import.meta.url)); // from dist/bench

/** Milliseconds that the kernel takes for the same work as ours. */
export interface KernelFloor extends AsyncDisposable {
  /** What stands behind the figure in the table. */
  readonly label: string;
  /** Whether it is what budgets are about; a stand-in is shown beside ours and judges nothing. */
  readonly judges: boolean;
  /** For `count` veth pairs as endpoints have them: one duration each. */
  endpoints(count: number): Promise<number[]>;
  /** The same with the far end addressed and up, in a namespace of its own. */
  attached(count: number): Promise<number[]>;
  /** For two entries for each of `count` remote endpoints, altogether. */
  entries(count: number): Promise<number>;
}

type Program = 'floor' | 'fdb-monitor' | 'round-trips';

/** A compiled program of this folder; undefined without a compiler. */
export async function compile(name: Program, directory: string): Promise<string | undefined> {
  if (!(await hasProgram('gcc'))) return undefined;
  const program = join(directory, name);
  await ok(['gcc', '-O2', '-o', program, source(`${name}.c`)]);
  return program;
}

export async function openFloor(host: BenchHost): Promise<KernelFloor> {
  const program = await compile('floor', host.root);
  return program ? new CompiledFloor(host, program) : new BatchFloor(host);
}

class CompiledFloor implements KernelFloor {
  readonly label = 'C loop';
  readonly judges = true;
  readonly #endpoints: LineChild;
  readonly #attached: LineChild;
  readonly #entries: LineChild;

  constructor({ namespaces }: BenchHost, program: string) {
    const child = (what: string) => new LineChild(namespaces.spawn([program, what], { stdio: 'pipe' }));
    this.#endpoints = child('endpoints');
    this.#attached = child('attached');
    this.#entries = child('entries');
  }

  endpoints = (count: number) => durations(this.#endpoints, count);
  attached = (count: number) => durations(this.#attached, count);

  async entries(count: number): Promise<number> {
    return milliseconds(await this.#entries.ask(String(count)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#endpoints[Symbol.asyncDispose]();
    await this.#attached[Symbol.asyncDispose]();
    await this.#entries[Symbol.asyncDispose]();
  }
}

async function durations(child: LineChild, count: number): Promise<number[]> {
  const line = await child.ask(String(count));
  return line.trim().split(' ').map(milliseconds);
}

const milliseconds = (nanoseconds: string) => Number(nanoseconds) / 1e6;

const NETNS = 'floor';

class BatchFloor implements KernelFloor {
  readonly label = 'ip -batch (no gcc)';
  readonly judges = false;
  readonly #host: BenchHost;
  #next = 0;

  constructor(host: BenchHost) {
    this.#host = host;
  }

  /** One `ip -batch` for all of them: its own start is shared among them. */
  endpoints = (count: number) => this.#plug(count, () => []);
  attached = (count: number) =>
    this.#plug(count, number => [
      `link set floort${number} up`,
      `addr add 10.99.${number >> 8}.${number & 255}/24 dev floort${number}`,
    ]);

  async #plug(count: number, far: (number: number) => readonly string[]): Promise<number[]> {
    const { namespaces } = this.#host;
    await this.#make();
    const numbers = times(count).map(() => this.#next++);
    const input = numbers.map(
      number =>
        `link add floor${number} netns ${NETNS} mtu 1450 type veth peer name floort${number} mtu 1450`,
    );
    const inside = numbers.map(number => `link set floor${number} master br0 up`);
    const startedAt = performance.now();
    await namespaces.exec(['ip', '-batch', '-'], { input: [...input, ...numbers.flatMap(far)].join('\n') });
    await namespaces.exec(['ip', '-n', NETNS, '-batch', '-'], { input: inside.join('\n') });
    const each = (performance.now() - startedAt) / count;
    await this.#remove();
    return numbers.map(() => each);
  }

  async entries(count: number): Promise<number> {
    const { namespaces } = this.#host;
    await this.#make();
    const names = times(count).map(index => {
      const number = index + 2;
      const bytes = [10, 1 + (number >> 16), (number >> 8) & 255, number & 255];
      const mac = ['02', '84', ...bytes.map(byte => byte.toString(16).padStart(2, '0'))].join(':');
      return { address: bytes.join('.'), mac };
    });
    const arp = names.map(
      ({ address, mac }) => `neigh replace ${address} lladdr ${mac} dev vxlan0 nud permanent`,
    );
    const fdb = names.map(({ mac }) => `fdb replace ${mac} dev vxlan0 dst 10.79.0.100 self permanent`);
    const startedAt = performance.now();
    await namespaces.exec(['ip', '-n', NETNS, '-batch', '-'], { input: arp.join('\n') });
    await namespaces.exec(['bridge', '-n', NETNS, '-batch', '-'], { input: fdb.join('\n') });
    const took = performance.now() - startedAt;
    await this.#remove();
    return took;
  }

  async #make(): Promise<void> {
    const { namespaces } = this.#host;
    await namespaces.exec(['ip', 'netns', 'add', NETNS]);
    const links = [
      'link add br0 up type bridge',
      'link add vxlan0 up type vxlan id 77 dstport 4941 nolearning',
    ];
    await namespaces.exec(['ip', '-n', NETNS, '-batch', '-'], { input: links.join('\n') });
  }

  async #remove(): Promise<void> {
    await this.#host.namespaces.exec(['ip', 'netns', 'delete', NETNS]);
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
