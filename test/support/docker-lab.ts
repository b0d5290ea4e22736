/**
 * Docker hosts on one machine: each has its own network, mount and UTS namespace, containerd and dockerd, and all
 * of them hang on one bridge in a namespace that has no way out. Needs root, and the programs nsenter, unshare, ip,
 * containerd, dockerd, docker and a static busybox. Of the machine itself nothing changes.
 */
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeBusyboxTar } from './busybox-image.js';
import { ok, run } from './command.js';
import { DockerHost } from './docker-host.js';
import { type EtcdCluster, type EtcdOptions, startEtcd } from './etcd.js';
import { protect } from './guardian.js';
import { type Claim, namespacePath, sweep } from './sweep.js';

export interface LabOptions {
  /** Default 2, at most 200. */
  readonly hosts?: number;
  /** Default `sandlab-<pid>`; hosts are `<name>-1` and so on. */
  readonly name?: string;
  /** Flags for every dockerd: `--live-restore`. */
  readonly dockerdFlags?: readonly string[];
}

const PREFIX = '10.78.0'; // the same in every lab: their switches do not know each other
const PREFIX_LENGTH = 24;
const SWITCH_ADDRESS = `${PREFIX}.1`;
const REGISTRY = `${SWITCH_ADDRESS}:5000`; // plain HTTP is allowed to it, where a test puts one there

export class DockerLab {
  readonly name: string;
  /** A directory of this lab on the machine. */
  readonly root: string;
  readonly hosts: DockerHost[] = [];
  /** The switch's network namespace, below `/run/netns`. */
  readonly switchNamespace: string;
  /** Of the switch itself: what runs in its namespace is reached there by every host. */
  readonly switchAddress = SWITCH_ADDRESS;
  /** What is to be removed at the end; `processesOf` and tests read it. */
  readonly claim: Claim;
  readonly #etcds: EtcdCluster[] = [];
  #stopping: Promise<void> | undefined;
  #release = () => {};

  private constructor(name: string, root: string, hostNames: readonly string[]) {
    this.name = name;
    this.root = root;
    this.switchNamespace = `${name}-sw`;
    this.claim = {
      namespaces: [this.switchNamespace, ...hostNames],
      cgroups: hostNames,
      directories: [root],
    };
  }

  /** Starts hosts in parallel: about 2 s for two. Dispose of it in the end; a killed process's lab goes too, by a guardian. */
  static async start(options: LabOptions = {}): Promise<DockerLab> {
    const { hosts = 2, name: wantedName, dockerdFlags = [] } = options;
    const { name, root } = await takeName(wantedName);
    const hostNames = Array.from({ length: hosts }, (_, index) => `${name}-${index + 1}`);
    const lab = new DockerLab(name, root, hostNames);
    try {
      lab.#release = (await protect(lab.claim)).release;
      const tarFile = join(root, 'busybox.tar');
      await Promise.all([lab.#makeSwitch(hostNames), makeBusyboxTar(tarFile)]);
      const starts = hostNames.map((each, index) => lab.#startHost(each, index, { dockerdFlags, tarFile }));
      const outcomes = await Promise.allSettled(starts);
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
      return lab;
    } catch (error) {
      await lab.stop();
      throw error;
    }
  }

  /** A host by its number, from 1 as in the names. */
  host(number: number): DockerHost {
    const host = this.hosts[number - 1];
    if (!host) throw new Error(`No host ${number} in ${this.name}; it has ${this.hosts.length}`);
    return host;
  }

  /** etcd beside the switch, reached by every host; it ends with the lab. */
  async startEtcd(options: Omit<EtcdOptions, 'namespace' | 'listen'> = {}): Promise<EtcdCluster> {
    const etcd = await startEtcd({ ...options, namespace: this.switchNamespace, listen: SWITCH_ADDRESS });
    this.#etcds.push(etcd);
    return etcd;
  }

  /** Takes a host's cable away or gives it back. */
  async setCable(number: number, state: 'up' | 'down'): Promise<void> {
    await ok(['ip', '-n', this.switchNamespace, 'link', 'set', `port${number}`, state]);
  }

  /** Kills every process of the lab and removes all that was made, in about 0.3 s. Nothing is stopped in an orderly way. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  [Symbol.asyncDispose] = () => this.stop();

  async #stop(): Promise<void> {
    const outcomes = await Promise.allSettled([...this.#etcds.map(etcd => etcd.stop()), sweep(this.claim)]);
    const errors = outcomes.flatMap(outcome => (outcome.status === 'rejected' ? [outcome.reason] : []));
    if (errors.length > 0) throw new AggregateError(errors, errors.map(String).join('; '));
    this.#release();
  }

  async #makeSwitch(hostNames: readonly string[]): Promise<void> {
    const bridge = this.switchNamespace;
    const namespaces = [bridge, ...hostNames].map(name => `netns add ${name}`);
    const cables = hostNames.map(
      (name, index) => `link add port${index + 1} netns ${bridge} type veth peer name eth0 netns ${name}`,
    );
    await ok(['ip', '-batch', '-'], { input: [...namespaces, ...cables].join('\n') });
    const ports = hostNames.map((_, index) => `link set port${index + 1} master br0 up`);
    const inside = ['link set lo up', 'link add br0 type bridge', 'link set br0 up'];
    const address = `addr add ${SWITCH_ADDRESS}/${PREFIX_LENGTH} dev br0`;
    await ok(['ip', '-n', bridge, '-batch', '-'], { input: [...inside, address, ...ports].join('\n') });
    // Frames of the switch need not pass iptables. Absent where br_netfilter is not loaded
    const setting = '/proc/sys/net/bridge/bridge-nf-call-iptables';
    await run(['nsenter', `--net=${namespacePath(bridge)}`, 'tee', setting], { input: '0' });
  }

  async #startHost(name: string, index: number, rest: { dockerdFlags: readonly string[]; tarFile: string }) {
    const { dockerdFlags, tarFile } = rest;
    const host = await DockerHost.start({
      name,
      address: `${PREFIX}.${11 + index}`,
      prefixLength: PREFIX_LENGTH,
      root: join(this.root, name),
      dockerdFlags,
      registry: REGISTRY,
    });
    await host.docker('import', '--change', 'CMD ["sh"]', tarFile, 'busybox:latest');
    this.hosts[index] = host;
  }
}

/** The lab's directory is its lock: whoever makes it has the name. */
async function takeName(wanted: string | undefined): Promise<{ name: string; root: string }> {
  for (let count = 1; ; count += 1) {
    const name = wanted ?? `sandlab-${process.pid}${count === 1 ? '' : `x${count}`}`;
    const root = join(tmpdir(), name);
    try {
      await mkdir(root);
      return { name, root };
    } catch (cause) {
      const taken = (cause as NodeJS.ErrnoException).code === 'EEXIST';
      if (!taken || wanted !== undefined) throw new Error(`No lab named ${name}: ${cause}`, { cause });
    }
  }
}
