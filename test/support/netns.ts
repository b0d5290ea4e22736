/** Namespaces for kernel tests: every name begins with the process's own prefix, and all of them go, whatever failed. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NetnsPath } from '../../model/scalars.js';
import { type CommandResult, json, ok, run } from './command.js';
import { protect } from './guardian.js';

export interface LinkJson {
  readonly ifname: string;
  readonly ifindex: number;
  readonly mtu: number;
  readonly address: string;
  readonly master?: string;
  readonly ifalias?: string;
  readonly flags: readonly string[];
  readonly linkinfo?: {
    readonly info_kind?: string;
    readonly info_data?: Readonly<Record<string, unknown>>;
  };
}
export interface FdbJson {
  readonly mac: string;
  readonly ifname: string;
  readonly dst?: string;
  readonly state?: string;
  readonly flags: readonly string[];
}
export interface NeighbourJson {
  readonly dst: string;
  readonly lladdr?: string;
  readonly state: readonly string[];
}

/** One namespace, looked at and changed by iproute2. */
export class TestNetns {
  constructor(readonly path: NetnsPath) {}

  run(...argv: readonly string[]): Promise<CommandResult> {
    return run(['nsenter', `--net=${this.path}`, '--', ...argv]);
  }

  exec(...argv: readonly string[]): Promise<string> {
    return ok(['nsenter', `--net=${this.path}`, '--', ...argv]);
  }

  /** Each line without the leading `ip`, in one call. */
  async ip(...lines: readonly string[]): Promise<void> {
    await ok(['nsenter', `--net=${this.path}`, '--', 'ip', '-batch', '-'], { input: lines.join('\n') });
  }

  async bridge(...lines: readonly string[]): Promise<void> {
    await ok(['nsenter', `--net=${this.path}`, '--', 'bridge', '-batch', '-'], { input: lines.join('\n') });
  }

  async links(): Promise<readonly LinkJson[]> {
    return (await this.#json<LinkJson[]>('ip', '-j', '-d', 'link', 'show')) ?? [];
  }

  async link(name: string): Promise<LinkJson | undefined> {
    return (await this.links()).find(({ ifname }) => ifname === name);
  }

  /** Addresses with their prefix length and broadcast: `10.1.0.1/24 brd 10.1.0.255`. */
  async addresses(name: string): Promise<string[]> {
    interface Shown {
      readonly addr_info: readonly { local: string; prefixlen: number; broadcast?: string }[];
    }
    const [shown] = await this.#json<Shown[]>('ip', '-j', '-4', 'address', 'show', 'dev', name);
    return (shown?.addr_info ?? []).map(
      ({ local, prefixlen, broadcast }) => `${local}/${prefixlen} brd ${broadcast}`,
    );
  }

  async fdb(name: string): Promise<readonly FdbJson[]> {
    return (await this.#json<FdbJson[]>('bridge', '-j', 'fdb', 'show', 'dev', name)) ?? [];
  }

  async neighbours(name: string): Promise<readonly NeighbourJson[]> {
    return (await this.#json<NeighbourJson[]>('ip', '-j', 'neigh', 'show', 'dev', name)) ?? [];
  }

  /** Settings of a bridge's port, as `bridge -d link` shows them. */
  async port(name: string): Promise<Readonly<Record<string, unknown>> | undefined> {
    const ports = await this.#json<Record<string, unknown>[]>('bridge', '-j', '-d', 'link', 'show');
    return ports?.find(({ ifname }) => ifname === name);
  }

  async sysctl(name: string): Promise<string> {
    return (await this.exec('cat', `/proc/sys/${name.replaceAll('.', '/')}`)).trim();
  }

  /** How many of the pings came back. */
  async ping(address: string, { count = 1, intervalSeconds = 0.05 } = {}): Promise<number> {
    const argv = ['ping', '-n', '-c', `${count}`, '-i', `${intervalSeconds}`, '-W', '1', address];
    const { stdout } = await this.run(...argv);
    return Number(/(\d+) received/.exec(stdout)?.[1] ?? 0);
  }

  #json<T>(...argv: readonly string[]): Promise<T> {
    return json<T>(['nsenter', `--net=${this.path}`, '--', ...argv]);
  }
}

/** A namespace that several mounts are stacked for needs as many calls; a plain file needs none. */
export async function unmountAll(directory: string): Promise<void> {
  for (const file of await readdir(directory)) {
    while ((await run(['umount', '--lazy', join(directory, file)])).status === 0);
  }
}

type Protection = Awaited<ReturnType<typeof protect>>;

/** All that one test makes; `await using` takes it away. */
export class NetnsLab implements AsyncDisposable {
  readonly prefix = `sandtest-${process.pid}-${randomBytes(2).toString('hex')}`;
  readonly #names: string[] = [];
  readonly #owned: AsyncDisposable[] = [];
  readonly #protection: Protection;

  private constructor(
    readonly directory: string,
    protection: Protection,
  ) {
    this.#protection = protection;
  }

  static async open(): Promise<NetnsLab> {
    const directory = await mkdtemp(join(tmpdir(), 'sandtest-'));
    return new NetnsLab(directory, await protect({ directories: [directory] }));
  }

  /** A file name for an overlay namespace, in a directory that goes with the lab. */
  overlay(name: string): TestNetns {
    return new TestNetns(join(this.directory, name) as NetnsPath);
  }

  async netns(name: string): Promise<TestNetns> {
    const full = `${this.prefix}-${name}`;
    this.#names.push(full);
    await this.#protection.update({ directories: [this.directory], namespaces: this.#names });
    await ok(['ip', 'netns', 'add', full]);
    const netns = new TestNetns(`/run/netns/${full}` as NetnsPath);
    await netns.ip('link set lo up');
    return netns;
  }

  /** One that ends before the lab does. */
  async removeNetns(netns: TestNetns): Promise<void> {
    const name = netns.path.slice(netns.path.lastIndexOf('/') + 1);
    await ok(['ip', 'netns', 'delete', name]);
    this.#names.splice(this.#names.indexOf(name), 1);
  }

  /** Namespaces with an eth0 each on one wire: the first has 10.99.0.1. */
  async hosts<const N extends readonly string[]>(...names: N): Promise<{ [K in keyof N]: TestNetns }> {
    const wire = await this.netns('wire');
    await wire.ip('link add wire type bridge', 'link set wire up');
    const hosts: TestNetns[] = [];
    for (const [i, name] of names.entries()) {
      const host = await this.netns(name);
      await wire.ip(`link add port${i} master wire up type veth peer name eth0 netns ${this.prefix}-${name}`);
      await host.ip(`address add 10.99.0.${i + 1}/24 dev eth0`, 'link set eth0 up');
      hosts.push(host);
    }
    return hosts as { [K in keyof N]: TestNetns };
  }

  /** Closed with the lab, before the namespaces go. */
  own<T extends AsyncDisposable>(resource: T): T {
    this.#owned.push(resource);
    return resource;
  }

  /** Goes on past errors and reports all. */
  async [Symbol.asyncDispose](): Promise<void> {
    const errors: unknown[] = [];
    const attempt = (step: PromiseLike<unknown>) =>
      Promise.resolve(step).catch(error => void errors.push(error));
    for (const resource of this.#owned.reverse()) await attempt(resource[Symbol.asyncDispose]());
    await unmountAll(this.directory);
    await attempt(rm(this.directory, { recursive: true, force: true }));
    for (const name of this.#names) {
      if (existsSync(`/run/netns/${name}`)) await attempt(ok(['ip', 'netns', 'delete', name]));
    }
    this.#protection.release();
    if (errors.length > 0) throw new AggregateError(errors, `${this.prefix} left something behind`);
  }
}
