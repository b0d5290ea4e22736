/** Docker hosts of which each runs our agent, the stand-in of the original's, or one after the other. */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { AgentProcess } from './agent-process.js';
import { bitsOf } from './bit-set.js';
import type { DockerHost } from './docker-host.js';
import { DockerLab } from './docker-lab.js';
import type { EtcdCluster } from './etcd.js';
import { LegacyProcess, type PluginDoor } from './legacy-process.js';
import type { LegacyEndpoint } from './legacy-records.js';
import { until } from './until.js';

/** A bit of a fresh pool: network address, gateway, broadcast address. */
export const FRESH_BITS = [0, 1, 255];

export class MovingLab {
  readonly lab: DockerLab;
  readonly etcd: EtcdCluster;

  private constructor(lab: DockerLab, etcd: EtcdCluster) {
    this.lab = lab;
    this.etcd = etcd;
  }

  /** Two hosts and an etcd; no agent runs. */
  static async start(): Promise<MovingLab> {
    const lab = await DockerLab.start();
    try {
      return new MovingLab(lab, await lab.startEtcd());
    } catch (error) {
      await lab.stop();
      throw error;
    }
  }

  host = (number: number): DockerHost => this.lab.host(number);

  startLegacy(number: number, plugin: PluginDoor = 'none'): Promise<LegacyProcess> {
    return LegacyProcess.start(this.host(number), { etcdHosts: this.etcd.hosts, plugin });
  }

  /** With the environment of the original's service, and a state directory, since hosts share a file system. */
  startOurs(number: number, env: Readonly<Record<string, string>> = {}): Promise<AgentProcess> {
    const host = this.host(number);
    const own = {
      ETCD_HOSTS: this.etcd.hosts.join(),
      PEER_IP: host.address,
      PEER_HOSTNAME: host.name,
      SAND_STATE_DIR: join(host.root, 'state'),
    };
    return AgentProcess.start(host, { env: { ...own, ...env } });
  }

  newId = (): string => randomUUID();

  /** A network namespace that stands for any container; gives its file as the host sees it. */
  async addNetns(number: number, name: string): Promise<string> {
    await this.host(number).exec(['ip', 'netns', 'add', name]);
    return `/run/netns/${name}`;
  }

  /** Taken bits of the network's pool. */
  async bits(network: string): Promise<number[]> {
    const { bit_set } = JSON.parse((await this.etcd.get(`/sc-net/ipalloc/${network}`)) ?? '{}');
    return [...bitsOf(bit_set).taken].sort((a, b) => a - b);
  }

  async endpoints(network: string): Promise<LegacyEndpoint[]> {
    const entries = await this.etcd.entries(`/sc-net/network-endpoints/${network}/`);
    return [...entries.values()].map(value => JSON.parse(value));
  }

  stop = (): Promise<void> => this.lab.stop();
}

export const addressOf = ({ target_veth_ip }: LegacyEndpoint): string => target_veth_ip.split('/')[0] ?? '';

/** How many of some pings from a namespace are answered. */
export async function answered(host: DockerHost, netns: string, address: string, count = 3): Promise<number> {
  const argv = ['ping', '-n', '-c', String(count), '-i', '0.05', '-W', '1', address];
  const { stdout } = await host.run(argv, { netns });
  return Number(/(\d+) received/.exec(stdout)?.[1] ?? 0);
}

/** ARP and FDB entries of a host's overlay namespace, `ADDRESS MAC` and `MAC VTEP`. */
export async function peerEntries(host: DockerHost, network: string): Promise<string[]> {
  const netns = `/run/netns/sc-ns-${network}`;
  interface Arp {
    readonly dst: string;
    readonly lladdr?: string;
    readonly state: readonly string[];
  }
  interface Fdb {
    readonly mac: string;
    readonly dst?: string;
    readonly state?: string;
  }
  const arp = (await host.json<Arp[]>(['ip', '-j', 'neigh', 'show', 'dev', 'vxlan0'], { netns })) ?? [];
  const fdb = (await host.json<Fdb[]>(['bridge', '-j', 'fdb', 'show', 'dev', 'vxlan0'], { netns })) ?? [];
  return [
    ...arp.filter(({ state }) => state.includes('PERMANENT')).map(({ dst, lladdr }) => `${dst} ${lladdr}`),
    ...fdb.filter(({ dst, state }) => dst && state === 'permanent').map(({ mac, dst }) => `${mac} ${dst}`),
  ].sort();
}

/** A Docker network of the form that the original knows. */
export function createById(host: DockerHost, name: string, id: string): Promise<string> {
  const twice = ['--opt', `sand-id=${id}`, '--ipam-opt', `sand-id=${id}`];
  return host.docker('network', 'create', '--driver', 'sand', '--ipam-driver', 'sand', ...twice, name);
}

export interface OverlayLink {
  readonly ifname: string;
  readonly ifindex: number;
  readonly address: string;
  readonly mtu: number;
  readonly linkinfo?: { readonly info_data?: Readonly<Record<string, unknown>> };
}

export const overlayLinks = (host: DockerHost, network: string): Promise<OverlayLink[]> =>
  host.json<OverlayLink[]>(['ip', '-j', '-d', 'link', 'show'], { netns: `/run/netns/sc-ns-${network}` });

/** What tells whether kernel objects are the very same ones: the namespace's inode, and of each interface its number. */
export async function identityOf(host: DockerHost, network: string) {
  const file = `/run/netns/sc-ns-${network}`;
  const links = await overlayLinks(host, network);
  return {
    inode: (await host.exec(['stat', '--dereference', '--format', '%i', file])).trim(),
    links: links.map(({ ifname, ifindex, address }) => `${ifindex} ${ifname} ${address}`).sort(),
  };
}

/** Waits until our agent has taken the host's VXLAN over: it does not learn, and has the host's address. */
export async function untilAdopted(host: DockerHost, network: string): Promise<void> {
  const adopted = async () => {
    const vxlan = (await overlayLinks(host, network)).find(({ ifname }) => ifname === 'vxlan0');
    const { learning, local } = vxlan?.linkinfo?.info_data ?? {};
    return learning === false && local === host.address;
  };
  await until(adopted, { what: `${host.name} is taken over` });
}
