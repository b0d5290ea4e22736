/** One host of a cluster in this process: an engine with its own client. */
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Engine } from '../../engine/engine.js';
import { endpointIdOf } from '../../engine/host.js';
import { parseHostName, parseIpv4 } from '../../model/scalars.js';
import type { Kernel } from '../../overlay/kernel.js';
import { Bindings } from '../../plugin/bindings.js';
import { StoreClient } from '../../store/client.js';
import { Keys } from '../../store/keys.js';
import { TEST_DATA_PLANE } from './data-plane.js';
import { protect } from './guardian.js';
import { LogBook } from './log-book.js';
import { unmountAll } from './netns.js';

export interface NetworkHostPlan {
  readonly hosts: readonly string[];
  readonly prefix: string;
  readonly name: string;
  /** Shared by hosts without endpoints; one with endpoints needs a kernel and a `vtep` of its own. */
  readonly kernel: Kernel;
  /** Default 127.0.0.1. */
  readonly vtep?: string;
  readonly maxVni?: number;
  /** Where other hosts reach its API. */
  readonly apiHostname?: string;
  /** Of one that has ended: its journal and its namespaces; default: a new one. */
  readonly directory?: string;
  /** Default: the host's own, whichever process it runs in. */
  readonly identity?: string;
  readonly hostDeadAfterSeconds?: number;
}

export class NetworkHost implements AsyncDisposable {
  readonly engine: Engine;
  readonly bindings: Bindings;
  readonly log: LogBook;
  readonly directory: string;
  readonly #release: () => void;
  #halted: Promise<void> | undefined;

  private constructor(plan: NetworkHostPlan, directory: string, release: () => void) {
    this.directory = directory;
    this.#release = release;
    this.log = new LogBook();
    this.engine = new Engine({
      store: new StoreClient({ hosts: plan.hosts }),
      keys: new Keys(plan.prefix),
      kernel: plan.kernel,
      host: {
        name: parseHostName(plan.name),
        vtep: parseIpv4(plan.vtep ?? '127.0.0.1'),
        apiHostname: plan.apiHostname ?? '',
        netnsPath: this.#netnsPath,
        netnsPrefix: 'sc-ns-',
        vxlanPort: 4789,
        vxlanChecksum: true,
        maxVni: plan.maxVni ?? 999_999,
        dataPlane: TEST_DATA_PLANE,
      },
      journalPath: `${directory}/journal`,
      identity: { id: plan.identity ?? endpointIdOf(plan.name), instance: randomUUID() },
      version: 'v0.0.0-test',
      hostDeadAfterSeconds: plan.hostDeadAfterSeconds ?? 0,
      log: this.log,
    });
    this.bindings = new Bindings(this.engine);
  }

  /** Follows etcd and holds the first snapshot. */
  static async open(plan: NetworkHostPlan): Promise<NetworkHost> {
    const directory = plan.directory ?? (await mkdtemp(join(tmpdir(), 'sand-host-')));
    const { release } = await protect({ directories: [directory] });
    const host = new NetworkHost(plan, directory, release);
    host.engine.start();
    await host.engine.ready();
    return host;
  }

  get #netnsPath() {
    return join(this.directory, 'netns');
  }

  get networks() {
    return this.engine.networks;
  }

  /** A network with what most tests do not care about. */
  create(wish: Partial<Parameters<Engine['networks']['create']>[0]> = {}) {
    return this.engine.networks.create({ mtu: 1450, origin: 'api', ...wish });
  }

  /** Ends the engine as a stopped agent does: kernel, etcd and files stay as they are, for another host. Idempotent. */
  halt(): Promise<void> {
    this.#halted ??= this.#halt();
    return this.#halted;
  }

  async #halt(): Promise<void> {
    await this.engine[Symbol.asyncDispose]();
    await this.engine.options.store[Symbol.asyncDispose]();
    this.#release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.halt();
    if (existsSync(this.#netnsPath)) await unmountAll(this.#netnsPath);
    await rm(this.directory, { recursive: true, force: true });
  }
}
