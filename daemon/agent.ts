/** An agent as a value: store, kernel, engine and doors, in the order in which they depend on each other. */
import { ApiServer } from '../api/server.js';
import { Engine } from '../engine/engine.js';
import type { HostSettings } from '../engine/host.js';
import { describeError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import type { HostName } from '../model/scalars.js';
import { Kernel } from '../overlay/kernel.js';
import { AnonymousPools } from '../plugin/anonymous-pools.js';
import { Bindings } from '../plugin/bindings.js';
import { ipamDriver } from '../plugin/ipam-driver.js';
import { networkDriver } from '../plugin/network-driver.js';
import type { Methods } from '../plugin/server.js';
import { Keys } from '../store/keys.js';
import { StateLock } from '../store/state-lock.js';
import { chooseStore } from './choose-store.js';
import type { Config } from './config.js';
import { greeting } from './greeting.js';
import { chooseVtep } from './vtep.js';

export interface AgentOptions {
  readonly log: Logger;
  readonly version: string;
  /** Says on standard output what to type next. */
  readonly greet: boolean;
  /** Told once the engine can answer Docker. */
  methods(methods: Methods): void;
}

export class Agent implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #resources = new AsyncDisposableStack_();
  #starting: Promise<void> = Promise.resolve();

  readonly #lock: StateLock;

  private constructor(lock: StateLock) {
    this.#lock = lock;
  }

  /** Answers when the settings are known to be right; what may fail from outside goes on in the background. */
  static async start(config: Config, options: AgentOptions): Promise<Agent> {
    const vtep = await chooseVtep(config.peerIp);
    const agent = new Agent(StateLock.take(config.stateDir));
    const host: HostSettings = {
      name: config.peerHostname as HostName,
      vtep,
      apiHostname: config.apiHostname,
      netnsPath: config.netnsPath,
      netnsPrefix: config.netnsPrefix,
      vxlanPort: config.vxlanPort,
      vxlanChecksum: config.vxlanChecksum,
      maxVni: config.maxVni,
    };
    const { log, version } = options;
    log.info('sand-agent starts', { version, hostname: host.name, vtep, plugin_socket: config.pluginSocket });
    agent.#starting = agent.#open(config, host, options).catch(error => {
      log.error('start not finished', { err: describeError(error) });
    });
    return agent;
  }

  async #open(config: Config, host: HostSettings, options: AgentOptions): Promise<void> {
    const { log, version, greet } = options;
    const chosen = await chooseStore(config, log, this.#stop.signal);
    if (!chosen) return;
    const { store, embedded } = chosen;
    if (embedded) this.#resources.use(embedded);
    this.#resources.use(store);
    const kernel = this.#resources.use(await Kernel.start({ log }));
    const engine = this.#resources.use(
      new Engine({
        store,
        keys: new Keys(config.etcdPrefix),
        kernel,
        host,
        journalPath: `${config.stateDir}/journal`,
        log,
      }),
    );
    engine.start();
    const deps = { engine, bindings: new Bindings(engine), anonymous: new AnonymousPools() };
    options.methods({ ...ipamDriver(deps), ...networkDriver(deps) });
    this.#resources.use(await ApiServer.listen(engine, { ...apiOptions(config), version, log }));
    if (!greet) return;
    await engine.ready();
    process.stdout.write(await greeting(config));
  }

  /** Stops serving and following; containers keep their networks. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#starting;
    await this.#resources.dispose();
    this.#lock[Symbol.dispose]();
  }
}

const apiOptions = (config: Config) => ({
  port: config.httpPort,
  listen: config.listen,
  socketPath: `${config.runDir}/api.sock`,
  tls:
    config.httpTlsCert && config.httpTlsKey && config.httpTlsCa
      ? { cert: config.httpTlsCert, key: config.httpTlsKey, ca: config.httpTlsCa }
      : undefined,
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
