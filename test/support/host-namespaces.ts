/**
 * What makes a process believe that it runs on a machine of its own: a network, a mount and a UTS namespace, kept by
 * a sleeping process (the holder). The file system is the machine's, with `/run`, `/etc/docker` and `/sys` replaced.
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type CommandOptions, type CommandResult, json, ok, run } from './command.js';
import { namespacePath } from './sweep.js';
import { until } from './until.js';

export interface NamespacesPlan {
  /** Network namespace (below `/run/netns`) with an interface eth0, and the host's name. */
  readonly name: string;
  /** Of eth0, `10.78.0.11/24`. */
  readonly interfaceAddress: string;
  readonly root: string;
}

/** Where a command runs beside the defaults: in the host's mount and UTS namespaces, but in another network namespace. */
export interface InsideOptions {
  /** A namespace file, as the host sees it: `/run/sand/netns/…`. */
  readonly netns?: string;
}

/** Namespaces of one host; they end with their last process. */
export class HostNamespaces {
  /** The holder's process id. */
  readonly pid: number;

  private constructor(pid: number) {
    this.pid = pid;
  }

  /** Makes the namespaces around an existing network namespace and brings eth0 up. */
  static async open(plan: NamespacesPlan): Promise<HostNamespaces> {
    const enter = [`--net=${namespacePath(plan.name)}`, 'unshare', '--mount', '--uts'];
    const holder = spawn('nsenter', [...enter, '--propagation', 'private', 'sleep', 'infinity'], {
      stdio: 'ignore',
      detached: true,
    });
    holder.unref();
    const { pid } = holder;
    if (pid === undefined) throw new Error(`No holder for ${plan.name}: is nsenter (util-linux) installed`);
    const asleep = async () => (await readFile(`/proc/${pid}/cmdline`, 'utf8')).startsWith('sleep');
    await until(asleep, { what: `the namespaces of ${plan.name} are made`, everyMs: 5 });
    const namespaces = new HostNamespaces(pid);
    await namespaces.#dropCopiedMounts();
    await namespaces.#mountOwn(plan.root);
    await namespaces.#bringUp(plan);
    return namespaces;
  }

  /** A path inside the host, as this process can open it; unix sockets too. */
  path(inside: string): string {
    return join(`/proc/${this.pid}/root`, inside);
  }

  command(argv: readonly string[], { netns }: InsideOptions = {}): string[] {
    const network = netns === undefined ? [] : ['nsenter', `--net=${netns}`, '--'];
    return ['nsenter', '-t', String(this.pid), '-n', '-m', '-u', '--', ...network, ...argv];
  }

  run(argv: readonly string[], options: CommandOptions & InsideOptions = {}): Promise<CommandResult> {
    return run(this.command(argv, options), options);
  }

  exec(argv: readonly string[], options: CommandOptions & InsideOptions = {}): Promise<string> {
    return ok(this.command(argv, options), options);
  }

  json<T>(argv: readonly string[], options: CommandOptions & InsideOptions = {}): Promise<T> {
    return json<T>(this.command(argv, options), options);
  }

  /** The child's id is the program's own: nsenter replaces itself by it. */
  spawn(argv: readonly string[], options: SpawnOptions & InsideOptions = {}): ChildProcess {
    const [file = '', ...args] = this.command(argv, options);
    return spawn(file, args, options);
  }

  /** Mount points in the host's mount namespace with their type. */
  async mounts(): Promise<{ readonly path: string; readonly type: string }[]> {
    const text = await readFile(`/proc/${this.pid}/mountinfo`, 'utf8');
    return text
      .split('\n')
      .filter(line => line !== '')
      .map(line => {
        const [before = '', after = ''] = line.split(' - '); // proc(5): a dash ends the optional fields
        return { path: unescapeOctal(before.split(' ')[4] ?? ''), type: after.split(' ')[0] ?? '' };
      });
  }

  /** A copied nsfs mount would keep somebody else's network namespace alive, a copied overlay his container's root. */
  async #dropCopiedMounts(): Promise<void> {
    const copied = (await this.mounts()).filter(
      ({ path, type }) => type === 'nsfs' || /^\/(run|var\/run|var\/lib\/docker)\//.test(path),
    );
    const paths = copied.map(({ path }) => path).reverse();
    if (paths.length > 0) await this.run(['umount', '--lazy', ...paths]); // what hangs below another goes with it
  }

  async #mountOwn(root: string): Promise<void> {
    const cgroups = join(root, 'cgroup');
    await Promise.all([cgroups, '/etc/docker'].map(path => mkdir(path, { recursive: true })));
    await this.exec(['mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', '/run']);
    await this.exec(['mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', '/etc/docker']); // key.json: an engine id of its own
    // sysfs shows the network namespace it was mounted in; the machine's cgroups are carried over
    await this.exec(['mount', '--rbind', '/sys/fs/cgroup', cgroups]);
    await this.exec(['mount', '-t', 'sysfs', 'sysfs', '/sys']);
    await this.exec(['mount', '--rbind', cgroups, '/sys/fs/cgroup']);
    await this.exec(['umount', '--lazy', cgroups]);
    for (const path of ['lock', 'netns', 'docker/plugins']) {
      await mkdir(this.path(join('/run', path)), { recursive: true });
    }
    // As systemd does; a managed plugin with an rshared bind mount needs it
    await this.exec(['mount', '--make-rshared', '/']);
  }

  async #bringUp({ name, interfaceAddress }: NamespacesPlan): Promise<void> {
    await this.exec(['hostname', name]);
    const input = ['link set lo up', 'link set eth0 up', `addr add ${interfaceAddress} dev eth0`].join('\n');
    await this.exec(['ip', '-batch', '-'], { input });
  }
}

const unescapeOctal = (text: string) =>
  text.replace(/\\(\d{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
