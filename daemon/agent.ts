/** An agent as a value: store, kernel, engine and doors, in the order in which they depend on each other. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Engine } from '../engine/engine.js';
import type { HostSettings } from '../engine/host.js';
import { loadIdentity } from '../engine/identity.js';
import { TcpDoor } from '../listen/tcp-door.js';
import { describeError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import type { HostName } from '../model/scalars.js';
import { Kernel } from '../overlay/kernel.js';
import { AnonymousPools } from '../plugin/anonymous-pools.js';
import { Bindings } from '../plugin/bindings.js';
import { ForgottenNetworks } from '../plugin/forgotten-networks.js';
import { ipamDriver } from '../plugin/ipam-driver.js';
import { networkDriver } from '../plugin/network-driver.js';
import { checked, type Methods, type PluginServer } from '../plugin/server.js';
import type { StoreClient, StoreTls } from '../store/client.js';
import { Keys } from '../store/keys.js';
import { StateLock } from '../store/state-lock.js';
import { chooseStore } from './choose-store.js';
import { greeting } from './greeting.js';
import { apiSocketOf, type Config, dockerSocketOf } from './settings.js';
import { ShortSocket } from './short-socket.js';
import { type AgentTls, reloadTls } from './tls.js';
import { chooseVtep } from './vtep.js';

const API_WAITS_MS = 1_000; // chosen: an operator who comes while etcd is away waits for no longer

export interface AgentOptions {
  readonly log: Logger;
  readonly version: string;
  /** Says on standard output what to type next. */
  readonly greet: boolean;
  readonly tls: AgentTls;
  readonly plugin: PluginServer;
  /** Told once the engine can answer Docker. */
  methods(methods: Methods): void;
  /** Told when what goes on in the background has come to an end before that. */
  failed?(error: unknown): void;
}

export class Agent implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #resources = new AsyncDisposableStack_();
  readonly #lock: StateLock;
  readonly #options: AgentOptions;
  #starting: Promise<void> = Promise.resolve();
  #reloading: Promise<void> = Promise.resolve();
  #store: StoreClient | undefined;
  #pluginDoor: TcpDoor | undefined;
  #shortSocket: ShortSocket | undefined;

  private constructor(lock: StateLock, options: AgentOptions) {
    this.#lock = lock;
    this.#options = options;
  }

  /** Answers when the settings are known to be right; what may fail from outside goes on in the background. */
  static async start(config: Config, options: AgentOptions): Promise<Agent> {
    const vtep = await chooseVtep(config.peerIp);
    const agent = new Agent(StateLock.take(config.stateDir), options);
    const host: HostSettings = {
      name: config.peerHostname as HostName,
      vtep,
      apiHostname: config.apiHostname,
      netnsPath: config.netnsPath,
      netnsPrefix: config.netnsPrefix,
      vxlanPort: config.vxlanPort,
      vxlanChecksum: config.vxlanChecksum,
      maxVni: config.maxVni,
      dataPlane: config.dataPlane,
    };
    const { log, version } = options;
    log.info('sand-agent starts', { version, hostname: host.name, vtep, plugin_socket: config.pluginSocket });
    if (config.shortSocket) agent.#shortSocket = ShortSocket.open(config.shortSocket, options.plugin, log);
    if (config.enableDockerPlugin) agent.#openPluginPort(config);
    agent.#starting = agent.#open(config, host).catch(error => {
      log.error('start not finished', { err: describeError(error) });
      options.failed?.(error);
    });
    return agent;
  }

  /** For a dockerd that was told the original's address: docs/decisions/0010. */
  #openPluginPort(config: Config): void {
    const { log, plugin, tls } = this.#options;
    this.#pluginDoor = TcpDoor.open({
      door: 'docker plugin',
      port: config.dockerPluginHttpPort,
      addresses: 'all',
      tls: tls.http,
      log,
      attach: server => plugin.attach(server),
      ...(tls.http ? {} : { callers: 'this-host' }),
    });
  }

  async #open(config: Config, host: HostSettings): Promise<void> {
    const { log, version, greet, tls } = this.#options;
    const kernel = this.#resources.use(Kernel.begin({ log, hostRun: config.hostRun }));
    const chosen = await chooseStore(config, tls.etcd?.current(), { log, signal: this.#stop.signal });
    if (!chosen) return;
    const { store, embedded, usesTlsFiles } = chosen;
    if (usesTlsFiles) this.#store = store;
    if (embedded) this.#resources.use(embedded);
    this.#resources.use(store);
    const engine = this.#resources.use(
      new Engine({
        store,
        keys: new Keys(config.etcdPrefix),
        kernel,
        host,
        journalPath: `${config.stateDir}/journal`,
        identity: loadIdentity(config.stateDir),
        version,
        hostDeadAfterSeconds: config.hostDeadAfter,
        log,
      }),
    );
    const begun = engine.start();
    await kernel.started();
    const bindings = new Bindings(engine);
    const deps = { engine, bindings, anonymous: new AnonymousPools() };
    const methods = { ...ipamDriver(deps), ...networkDriver(deps) };
    this.#options.methods(checked(methods, () => engine.requireName()));
    this.#resources.use(
      ForgottenNetworks.start({ engine, bindings, dockerSocket: dockerSocketOf(config), log }),
    );
    await this.#openApi(config, { engine, begun });
    if (!greet) return;
    await engine.ready();
    process.stdout.write(await greeting(config));
  }

  /** After the networks are compared: its libraries, which nothing else needs, would take the thread that compares them. */
  async #openApi(config: Config, { engine, begun }: { engine: Engine; begun: Promise<void> }): Promise<void> {
    const { log, version, tls } = this.#options;
    const { signal } = this.#stop;
    const waited = sleep(API_WAITS_MS, undefined, { signal }).catch(() => undefined);
    await Promise.race([begun, waited]);
    const { ApiServer } = await import('../api/server.js');
    this.#resources.use(
      await ApiServer.listen(engine, { ...apiOptions(config), tls: tls.http, version, log }),
    );
  }

  /** Reads the TLS files again, for connections from now on; those that are open stay. */
  reload(): Promise<void> {
    const renewEtcd = async (parts: StoreTls) => this.#store?.renew(parts);
    const work = () => reloadTls(this.#options.tls, renewEtcd, this.#options.log);
    this.#reloading = this.#reloading.then(work);
    return this.#reloading;
  }

  /** Stops serving and following; containers keep their networks. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#pluginDoor?.[Symbol.asyncDispose]();
    await this.#shortSocket?.[Symbol.asyncDispose]();
    await this.#starting;
    await this.#reloading;
    await this.#resources.dispose();
    this.#lock[Symbol.dispose]();
  }
}

const apiOptions = (config: Config) => ({
  port: config.httpPort,
  listen: config.listen,
  socketPath: apiSocketOf(config),
});

/** Closes in reverse order of opening. */
class AsyncDisposableStack_ {
  readonly #open: AsyncDisposable[] = [];

  use<T extends AsyncDisposable>(resource: T): T {
    this.#open.push(resource);
    return resource;
  }

  async dispose(): Promise<void> {
    for (const resource of this.#open.reverse()) await resource[Symbol.asyncDispose]();
  }
}
