/** A lab with an etcd and an agent on each host: two machines as an operator sets them up, in about a second. */
import { join } from 'node:path';
import { AgentProcess } from './agent-process.js';
import type { DockerHost } from './docker-host.js';
import { DockerLab, type LabOptions } from './docker-lab.js';
import type { EtcdCluster } from './etcd.js';

/** `/sc-net/network/<id>` as it stands in etcd. */
export interface StoredNetwork {
  readonly id: string;
  readonly name: string;
  readonly vxlan_vni: number;
  readonly ip_range: string;
  readonly gateway: string;
}

type AgentEnv = (host: DockerHost) => Readonly<Record<string, string>>;

export class SandLab {
  readonly lab: DockerLab;
  readonly etcd: EtcdCluster;
  readonly #agents: AgentProcess[] = [];
  readonly #extra: AgentEnv;

  private constructor(lab: DockerLab, etcd: EtcdCluster, extra: AgentEnv) {
    this.lab = lab;
    this.etcd = etcd;
    this.#extra = extra;
  }

  /** @param extra what every agent's environment has besides */
  static async start(options: LabOptions = {}, extra: AgentEnv = () => ({})): Promise<SandLab> {
    const lab = await DockerLab.start(options);
    try {
      const sand = new SandLab(lab, await lab.startEtcd(), extra);
      await Promise.all(lab.hosts.map((_, index) => sand.startAgent(index + 1)));
      return sand;
    } catch (error) {
      await lab.stop();
      throw error;
    }
  }

  /** From 1, as in `DockerLab`. */
  host(number: number): DockerHost {
    return this.lab.host(number);
  }

  agent(number: number): AgentProcess {
    const agent = this.#agents[number - 1];
    if (!agent) throw new Error(`No agent on host ${number}`);
    return agent;
  }

  /** What an agent needs to know on that host; the file system is the machine's, so each has a state directory. */
  env(number: number): Record<string, string> {
    const host = this.host(number);
    const state = join(host.root, 'state');
    const own = { ETCD_HOSTS: this.etcd.hosts.join(), PEER_IP: host.address, SAND_STATE_DIR: state };
    return { ...own, ...this.#extra(host) };
  }

  /** Starts the host's agent, again after it was stopped. */
  async startAgent(number: number, env: Readonly<Record<string, string>> = {}): Promise<AgentProcess> {
    const agent = await AgentProcess.start(this.host(number), { env: { ...this.env(number), ...env } });
    this.#agents[number - 1] = agent;
    return agent;
  }

  async networks(): Promise<StoredNetwork[]> {
    const entries = await this.etcd.entries('/sc-net/network/');
    return [...entries.values()].map(value => JSON.parse(value) as StoredNetwork);
  }

  /** The only network that bears the name. */
  async network(name: string): Promise<StoredNetwork> {
    const [found, ...more] = (await this.networks()).filter(network => network.name === name);
    if (!found || more.length > 0) throw new Error(`${more.length + (found ? 1 : 0)} networks named ${name}`);
    return found;
  }

  stop(): Promise<void> {
    return this.lab.stop();
  }
}

/** The file of a network's namespace, as a host sees it. */
export const overlayPath = (networkId: string) => `/run/netns/sc-ns-${networkId}`;

const SLEEPER = ['busybox', 'sleep', '100000'];

/** `docker run -d` of a container that sleeps; answers its name. */
export async function runSleeper(
  host: DockerHost,
  name: string,
  ...flags: readonly string[]
): Promise<string> {
  await host.docker('run', '--detach', '--name', name, ...flags, ...SLEEPER);
  return name;
}

/** Ends containers; `docker rm -f` of busybox' sleep takes no 10 s. */
export async function removeContainers(host: DockerHost, ...names: readonly string[]): Promise<void> {
  if (names.length > 0) await host.docker('rm', '--force', ...names);
}

/** The container's address in one of its networks, as Docker shows it. */
export async function addressIn(host: DockerHost, container: string, network: string): Promise<string> {
  const format = `{{(index .NetworkSettings.Networks ${JSON.stringify(network)}).IPAddress}}`;
  const address = await host.docker('inspect', '--format', format, container);
  if (!/^\d+\.\d+\.\d+\.\d+$/.test(address)) throw new Error(`${container} has no address in ${network}`);
  return address;
}

/** The container's network namespace, for programs of the machine: they need no dockerd, which may be away. */
export async function netnsOf(host: DockerHost, container: string): Promise<string> {
  return `/proc/${await host.docker('inspect', '--format', '{{.State.Pid}}', container)}/ns/net`;
}

/** Pings from inside a container. @throws {Error} with ping's words when an answer is missing. */
export async function ping(host: DockerHost, container: string, address: string, count = 1): Promise<void> {
  await host.docker('exec', container, 'ping', '-c', String(count), '-W', '2', address);
}

/** `docker network create` with ours as driver and IPAM, bound to a network by its name. */
export function createNamed(host: DockerHost, name: string, ...flags: readonly string[]): Promise<string> {
  const twice = ['--opt', `sand-name=${name}`, '--ipam-opt', `sand-name=${name}`];
  return host.docker(
    'network',
    'create',
    '--driver',
    'sand',
    '--ipam-driver',
    'sand',
    ...twice,
    ...flags,
    name,
  );
}
