/** Three hosts, an etcd of three members, two networks: `steady`, whose traffic is watched, and `busy`, where things happen. */
import { join } from 'node:path';
import { type EtcdCluster, type EtcdOptions, startEtcd } from '../support/etcd.js';
import { type CheckedCluster, untilSound, violations } from '../support/invariants.js';
import { NetnsLab, type TestNetns, unmountAll } from '../support/netns.js';
import { until } from '../support/until.js';
import { SoakHost } from './host.js';

export const PREFIX = '/sc-net';
const HOSTS = ['ant', 'bee', 'cat'] as const;

export class SoakCluster implements AsyncDisposable {
  readonly #lab: NetnsLab;
  #names = 0;

  private constructor(
    lab: NetnsLab,
    readonly etcd: EtcdCluster,
    readonly hosts: readonly SoakHost[],
  ) {
    this.#lab = lab;
  }

  static async open(etcdOptions: EtcdOptions = {}): Promise<SoakCluster> {
    const lab = await NetnsLab.open();
    const namespaces = await lab.hosts(...HOSTS);
    const etcd = await startEtcd({ members: 3, ...etcdOptions });
    const hosts = HOSTS.map(
      (name, i) =>
        new SoakHost({
          name,
          netns: namespaces[i] as TestNetns,
          vtep: `10.99.0.${i + 1}`,
          directory: join(lab.directory, name),
          etcd: etcd.socketHosts,
        }),
    );
    for (const host of hosts) await host.start();
    return new SoakCluster(lab, etcd, hosts);
  }

  /** A namespace for an endpoint; its name is not used again. */
  netns(): Promise<TestNetns> {
    return this.#lab.netns(`n${++this.#names}`);
  }

  removeNetns(netns: TestNetns): Promise<void> {
    return this.#lab.removeNetns(netns);
  }

  async network(name: string, range: string): Promise<string> {
    const [host] = this.hosts;
    const { status, text } = (await host?.api('POST', '/networks', { name, ip_range: range })) ?? {
      status: 0,
      text: '',
    };
    if (status !== 201) throw new Error(`POST /networks: ${status} ${text}`);
    return JSON.parse(text).network.id;
  }

  get checked(): CheckedCluster {
    return { etcd: this.etcd, prefix: PREFIX, hosts: this.hosts.map(({ checked }) => checked) };
  }

  /** Milliseconds until nothing is wrong any more. @throws {Error} with what is. */
  async untilSound(timeoutMs: number): Promise<number> {
    const began = performance.now();
    await untilSound(this.checked, { timeoutMs }).catch(async error => {
      // A look at everything takes many seconds on a busy machine: one that began before the end does not count.
      if ((await violations(this.checked)).length > 0) throw error;
    });
    return performance.now() - began;
  }

  /** Keys that are left beside those of hosts. */
  async untilEmpty(): Promise<string[]> {
    let left: string[] = [];
    const empty = async () => {
      left = (await this.etcd.keys(`${PREFIX}/`)).filter(key => !/\/network\.(hosts|presence)\//.test(key));
      return left.length === 0;
    };
    await until(empty, { timeoutMs: 15_000 }).catch(() => undefined);
    return left;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const host of this.hosts) {
      await host.stop();
      await unmountAll(host.overlays);
    }
    await this.etcd.stop();
    await this.#lab[Symbol.asyncDispose]();
  }
}
