/** The managed plugin, as `make plugin-push` builds it, in a registry that every host of a lab reaches. */
import { spawn } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makePluginDirectory } from '../../packaging/plugin/rootfs.js';
import type { DockerHost } from './docker-host.js';
import type { DockerLab } from './docker-lab.js';
import { namespacePath } from './sweep.js';
import { until } from './until.js';

const ALIAS = 'sand-net';
/** What `docker network create --driver` takes. */
export const DRIVER = `${ALIAS}:latest`;

/** `docker network create` with the managed plugin as driver, bound to a network by its name. */
export const managedNetwork = (name: string, driver = DRIVER) => [
  ...['network', 'create', '--driver', driver, '--ipam-driver', 'null', '--opt', `sand-name=${name}`, name],
];

export class ManagedPlugin {
  readonly #lab: DockerLab;
  readonly #directory: string;

  private constructor(lab: DockerLab) {
    this.#lab = lab;
    this.#directory = join(lab.root, 'plugin');
  }

  /** Builds it and pushes it from the first host: some 8 s, most of it compression. */
  static async publish(lab: DockerLab, tag = '1'): Promise<ManagedPlugin> {
    const plugin = new ManagedPlugin(lab);
    await Promise.all([plugin.#startRegistry(), plugin.publishAgain(tag)]);
    return plugin;
  }

  reference = (tag = '1') => `${this.#lab.switchAddress}:5000/sand-net:${tag}`;

  /** The same under another tag, with another version if told. */
  async publishAgain(tag: string, version?: string): Promise<void> {
    const [host] = this.#lab.hosts;
    const name = this.reference(tag);
    await makePluginDirectory(this.#directory, name);
    if (version) {
      const file = join(this.#directory, 'rootfs/usr/lib/sand/package.json');
      await writeFile(file, JSON.stringify({ ...JSON.parse(await readFile(file, 'utf8')), version }));
    }
    await host?.docker('plugin', 'create', name, this.#directory);
    await until(() => host?.docker('plugin', 'push', name), {
      what: 'the registry takes the plugin',
      timeoutMs: 20_000,
    });
    await host?.docker('plugin', 'rm', name);
  }

  /** `docker plugin install`, enabled unless told. */
  async install(host: DockerHost, ...settings: readonly string[]): Promise<void> {
    const flags = ['--grant-all-permissions', '--alias', ALIAS];
    await host.docker('plugin', 'install', ...flags, this.reference(), ...settings);
  }

  async #startRegistry(): Promise<void> {
    const directory = join(this.#lab.root, 'registry');
    await mkdir(directory);
    const config = join(directory, 'config.yml');
    const address = `${this.#lab.switchAddress}:5000`;
    await writeFile(
      config,
      `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${directory}}}\nhttp: {addr: "${address}"}\n`,
    );
    const enter = ['nsenter', `--net=${namespacePath(this.#lab.switchNamespace)}`];
    const [file = '', ...args] = [...enter, 'docker-registry', 'serve', config];
    // Like everything in the lab's namespaces, it ends with the lab.
    spawn(file, args, { stdio: 'ignore', detached: true }).unref();
  }
}

/** What the plugin has printed on this host: dockerd keeps it in its own log. */
export async function pluginLog(host: DockerHost): Promise<string> {
  const lines = (await host.dockerdLog()).split('\n').filter(line => / plugin=[0-9a-f]{64}/.test(line));
  return lines.join('\n');
}

/** Process id of the agent in the plugin, as this process sees it. */
export async function pluginPid(host: DockerHost): Promise<number> {
  const id = await host.docker('plugin', 'inspect', '--format', '{{.Id}}', ALIAS);
  const file = host.path(`/run/containerd/io.containerd.runtime.v2.task/plugins.moby/${id}/init.pid`);
  return Number(await readFile(file, 'utf8'));
}
