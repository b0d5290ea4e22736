import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DaemonProcess } from './daemon-process.js';
import type { DockerHost } from './docker-host.js';
import type { LegacyEndpoint, LegacyNetwork } from './legacy-records.js';
import { unixRequest } from './unix-http.js';

const MAIN = fileURLToPath(new URL('legacy-main.js', import.meta.url));
const API_SOCKET = '/run/legacy/api.sock';
const SPEC = '/etc/docker/plugins/sand.json';

/** How dockerd reaches the original's plugin: `http` as its documentation says, or a socket where ours stands. */
export type PluginDoor = 'http' | { readonly socket: string } | 'none';

export interface LegacyOptions {
  readonly etcdHosts: readonly string[];
  readonly plugin?: PluginDoor;
}

/** A stand-in of the original's agent as a child inside a host of the lab, under the host's name and address. */
export class LegacyProcess {
  readonly #host: DockerHost;
  readonly #process: DaemonProcess;

  private constructor(host: DockerHost, daemon: DaemonProcess) {
    this.#host = host;
    this.#process = daemon;
  }

  /** Gives when it has taken up its endpoints of before and answers. */
  static async start(
    host: DockerHost,
    { etcdHosts, plugin = 'none' }: LegacyOptions,
  ): Promise<LegacyProcess> {
    const logs = join(host.root, 'legacy');
    await mkdir(logs, { recursive: true });
    await rm(host.path(API_SOCKET), { force: true });
    if (plugin === 'http') {
      await mkdir(host.path('/etc/docker/plugins'), { recursive: true });
      await writeFile(host.path(SPEC), '{"Name":"sand","Addr":"http://127.0.0.1:9998"}');
    }
    const daemon = await DaemonProcess.start(host.namespaces, {
      what: `the stand-in on ${host.name}`,
      argv: [process.execPath, MAIN],
      logFile: join(logs, 'log'),
      env: {
        ETCD_HOSTS: etcdHosts.join(),
        PEER_HOSTNAME: host.name,
        PEER_IP: host.address,
        API_SOCKET,
        ...(plugin === 'http' ? { ENABLE_DOCKER_PLUGIN: 'true' } : {}),
        ...(typeof plugin === 'object' ? { PLUGIN_SOCKET: plugin.socket } : {}),
      },
    });
    const legacy = new LegacyProcess(host, daemon);
    await daemon.untilReady(async () => (await legacy.#request('GET', '/')).status === 404, 15_000);
    return legacy;
  }

  /** `POST /networks` of an id. */
  async createNetwork(id: string): Promise<LegacyNetwork> {
    return (await this.#expect<{ network: LegacyNetwork }>(201, 'POST', '/networks', { id })).network;
  }

  /** `POST /endpoints`, active with a namespace and inactive without. */
  async createEndpoint(network: string, netns?: string): Promise<LegacyEndpoint> {
    const activate =
      netns === undefined ? {} : { activate: true, activate_params: { ns_handle_path: netns } };
    const body = { network_id: network, ...activate };
    return (await this.#expect<{ endpoint: LegacyEndpoint }>(201, 'POST', '/endpoints', body)).endpoint;
  }

  /** A call as dockerd makes it, whichever way dockerd reaches the plugin. */
  dockerCall<T>(method: string, body: object): Promise<T> {
    return this.#expect<T>(200, 'POST', `/${method}`, body);
  }

  async deleteEndpoint(id: string): Promise<void> {
    await this.#expect(204, 'DELETE', `/endpoints/${id}`);
  }

  async #expect<T>(status: number, method: 'POST' | 'DELETE', path: string, body?: object): Promise<T> {
    const answer = await this.#request(method, path, body);
    if (answer.status !== status) throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
    return (answer.text === '' ? undefined : JSON.parse(answer.text)) as T;
  }

  #request(method: 'GET' | 'POST' | 'DELETE', path: string, body?: object) {
    const text = body === undefined ? '' : JSON.stringify(body);
    return unixRequest({ socket: this.#host.path(API_SOCKET), method, path, body: text });
  }

  log = () => this.#process.log();

  /** Its kernel objects and records stay. */
  async stop(): Promise<void> {
    await this.#process.stop('SIGTERM', 5_000);
  }
}
