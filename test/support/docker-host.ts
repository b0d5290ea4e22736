import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { access, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CommandOptions, CommandResult } from './command.js';
import { run } from './command.js';
import { DaemonProcess, type Ending } from './daemon-process.js';
import { HostNamespaces, type InsideOptions } from './host-namespaces.js';
import { Capture, type CaptureOptions } from './tcpdump.js';
import { unixRequest } from './unix-http.js';

export interface DockerHostPlan {
  /** Host name, network namespace and cgroup; unique on the machine. */
  readonly name: string;
  readonly address: string;
  readonly prefixLength: number;
  /** Kept by the lab, which removes it. */
  readonly root: string;
  /** Flags of dockerd beside those that the lab needs. */
  readonly dockerdFlags: readonly string[];
  readonly registry: string;
}

/** How a `docker` command failed. */
export interface DockerFailure {
  readonly stderr: string;
  readonly status: number;
  readonly ms: number;
}

const DOCKERD_PATIENCE_MS = 60_000; // without its plugin, dockerd is silent for 15 s per network of that plugin
const SOCKET = '/run/docker.sock';
const CONTAINERD_SOCKET = '/run/containerd/containerd.sock';

/** One Docker host of a lab: namespaces, containerd, dockerd and the image `busybox:latest`. The lab ends it. */
export class DockerHost {
  readonly name: string;
  /** IPv4 of eth0, on the lab's switch. */
  readonly address: string;
  /** A directory of this host on the machine: logs, and room for a test's own files. */
  readonly root: string;
  readonly namespaces: HostNamespaces;
  readonly #plan: DockerHostPlan;
  readonly #cli: string;
  #flags: readonly string[];
  #dockerd: DaemonProcess | undefined;
  #containerd: DaemonProcess | undefined;

  private constructor(plan: DockerHostPlan, namespaces: HostNamespaces, cli: string) {
    this.name = plan.name;
    this.address = plan.address;
    this.root = plan.root;
    this.namespaces = namespaces;
    this.#plan = plan;
    this.#cli = cli;
    this.#flags = plan.dockerdFlags;
  }

  /** Starts everything but the image, about 0.8 s. The network namespace with eth0 is there already. */
  static async start(plan: DockerHostPlan): Promise<DockerHost> {
    const { name, address, prefixLength, root } = plan;
    await Promise.all(
      ['docker', 'containerd', 'cli'].map(each => mkdir(join(root, each), { recursive: true })),
    );
    const namespaces = await HostNamespaces.open({
      name,
      root,
      interfaceAddress: `${address}/${prefixLength}`,
    });
    const host = new DockerHost(plan, namespaces, await dockerCli());
    // Overlays on a tmpfs work on any machine, cost no disk writes and end with the mount namespace
    for (const each of ['docker', 'containerd']) {
      await namespaces.exec(['mount', '-t', 'tmpfs', '-o', 'mode=711', 'tmpfs', join(root, each)]);
    }
    await host.#startContainerd();
    await host.startDockerd();
    return host;
  }

  /** Process id of the sleeper that holds the namespaces: for /proc and nsenter. */
  get holderPid(): number {
    return this.namespaces.pid;
  }

  /** The docker socket as this process can dial it. */
  get socket(): string {
    return this.path(SOCKET);
  }

  /** A path inside the host, as this process can open it; unix sockets too. */
  path(inside: string): string {
    return this.namespaces.path(inside);
  }

  /** Standard output of `docker ARGS`, without the last line feed. @throws {Error} with what it printed as error. */
  async docker(...args: readonly string[]): Promise<string> {
    const { stdout, stderr, status } = await this.runDocker(args);
    if (status === 0) return stdout.trimEnd();
    throw new Error(`docker ${args.join(' ')} on ${this.name}: exit status ${status}: ${stderr.trim()}`);
  }

  /** Like `docker`, for output in JSON: `dockerJson('network', 'inspect', 'n1')`. */
  async dockerJson<T = unknown>(...args: readonly string[]): Promise<T> {
    return JSON.parse(await this.docker(...args)) as T;
  }

  /** A docker command that must fail. @throws {Error} when it does not. */
  async dockerFails(...args: readonly string[]): Promise<DockerFailure> {
    const startedAt = performance.now();
    const { stderr, stdout, status } = await this.runDocker(args);
    if (status !== 0) return { stderr, status, ms: performance.now() - startedAt };
    throw new Error(`docker ${args.join(' ')} on ${this.name} must fail and succeeds: ${stdout.trim()}`);
  }

  /** A docker command with whatever outcome; at most 180 s unless told. */
  runDocker(args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    const env = { ...options.env, DOCKER_CONFIG: join(this.root, 'cli'), DOCKER_CONTEXT: undefined };
    return run([this.#cli, '-H', `unix://${this.socket}`, ...args], { timeoutMs: 180_000, ...options, env });
  }

  /** Standard output of a command inside the host. @throws {Error} with its standard error unless it exits with 0. */
  exec(argv: readonly string[], options: CommandOptions & InsideOptions = {}): Promise<string> {
    return this.namespaces.exec(argv, options);
  }

  /** Like `exec`, with whatever exit status. */
  run(argv: readonly string[], options: CommandOptions & InsideOptions = {}): Promise<CommandResult> {
    return this.namespaces.run(argv, options);
  }

  /** Like `exec`, for JSON: `json(['ip', '-j', 'link'])`. */
  json<T = unknown>(argv: readonly string[], options: CommandOptions & InsideOptions = {}): Promise<T> {
    return this.namespaces.json<T>(argv, options);
  }

  /** A child inside the host; it ends with the lab at the latest. */
  spawn(argv: readonly string[], options: SpawnOptions & InsideOptions = {}): ChildProcess {
    return this.namespaces.spawn(argv, options);
  }

  /** Captures packets from now on: `await using capture = await host.tcpdump({ interface: 'eth0', filter: 'udp port 4789' })`. */
  tcpdump(options: CaptureOptions): Promise<Capture> {
    return Capture.start(this.namespaces, options);
  }

  /** Starts dockerd and waits until it answers. Without flags: those of the last start. */
  async startDockerd(flags?: readonly string[], timeoutMs = DOCKERD_PATIENCE_MS): Promise<void> {
    if (this.#dockerd?.running) throw new Error(`dockerd of ${this.name} is running`);
    this.#flags = flags ?? this.#flags;
    const argv = ['dockerd', ...this.#dockerdFlags(), ...this.#flags];
    const logFile = join(this.root, 'dockerd.log');
    this.#dockerd = await DaemonProcess.start(this.namespaces, {
      what: `dockerd of ${this.name}`,
      argv,
      logFile,
    });
    await this.#dockerd.untilReady(() => this.ping(), timeoutMs);
  }

  /** Stops dockerd, not containerd. Containers end with it, except under SIGKILL and with `--live-restore`. */
  async stopDockerd(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ending> {
    if (!this.#dockerd) throw new Error(`dockerd of ${this.name} was never started`);
    return await this.#dockerd.stop(signal);
  }

  async restartDockerd(flags?: readonly string[], signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.stopDockerd(signal);
    await this.startDockerd(flags);
  }

  /** Containers and managed plugins outlive it. */
  async restartContainerd(signal: NodeJS.Signals): Promise<void> {
    await this.#containerd?.stop(signal);
    await rm(this.path(CONTAINERD_SOCKET), { force: true }); // what answers is the new one
    await this.#startContainerd();
  }

  /** Whether dockerd serves its API. @throws {Error} when nothing listens. */
  async ping(): Promise<boolean> {
    const headers = { Host: 'docker' };
    const answer = await unixRequest({ socket: this.socket, path: '/_ping', headers, timeoutMs: 2_000 });
    return answer.status === 200;
  }

  dockerdLog(): Promise<string> {
    return readFile(join(this.root, 'dockerd.log'), 'utf8');
  }

  async #startContainerd(): Promise<void> {
    const config = join(this.root, 'containerd.toml');
    await writeFile(config, containerdConfig(join(this.root, 'containerd')));
    this.#containerd = await DaemonProcess.start(this.namespaces, {
      what: `containerd of ${this.name}`,
      argv: ['containerd', '--config', config],
      logFile: join(this.root, 'containerd.log'),
    });
    await this.#containerd.untilReady(() => access(this.path(CONTAINERD_SOCKET)).then(() => true), 20_000);
  }

  #dockerdFlags(): string[] {
    const flags: Readonly<Record<string, string>> = {
      'data-root': join(this.root, 'docker'),
      'exec-root': '/run/docker',
      pidfile: '/run/docker.pid',
      // dockerd's own would do for containers, but a managed plugin with network.type=host lives in containerd's netns
      containerd: CONTAINERD_SOCKET,
      host: `unix://${SOCKET}`,
      'exec-opt': 'native.cgroupdriver=cgroupfs',
      'cgroup-parent': `/${this.name}`,
      'insecure-registry': this.#plan.registry,
    };
    return Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`);
  }
}

/** The distribution's client where there are two: it has the daemon's version. */
async function dockerCli(): Promise<string> {
  return access('/usr/bin/docker').then(
    () => '/usr/bin/docker',
    () => 'docker',
  );
}

/** Without the plugins that nobody needs here; `opt` would make /opt/containerd on the machine. */
function containerdConfig(root: string): string {
  return `version = 2
root = "${root}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "${CONTAINERD_SOCKET}"
`;
}
