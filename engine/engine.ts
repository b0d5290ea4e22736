/** An agent's inner part as one value: the mirror and its follower, the use cases, the reconcile. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Addresses } from '../ipam/addresses.js';
import { describeError, UnavailableError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import { addressOf, type IpAddress, type NetworkId } from '../model/scalars.js';
import type { Kernel } from '../overlay/kernel.js';
import type { StoreClient } from '../store/client.js';
import { follow } from '../store/follow.js';
import type { Keys } from '../store/keys.js';
import { Departed } from './departed.js';
import { Dialer } from './dial.js';
import { DockerEndpoints } from './docker-endpoints.js';
import { Endpoints } from './endpoints.js';
import { takeFirstSteps } from './first-steps.js';
import { type HostSettings, VXLAN_OVERHEAD } from './host.js';
import { HostClaim, notYetClaimed } from './host-claim.js';
import { Hosts } from './hosts.js';
import type { Identity } from './identity.js';
import { Journal } from './journal.js';
import { KeptTeardowns } from './kept-teardowns.js';
import { Mirror } from './mirror.js';
import { NetnsEndpoints } from './netns-endpoints.js';
import { Networks } from './networks.js';
import { Orphans } from './orphans.js';
import { OwnPorts } from './own-ports.js';
import { Reconciler } from './reconcile.js';
import { Reservations } from './reservations.js';
import { RestoredTruth } from './restored-truth.js';
import { TargetNames } from './target-names.js';
import { UnusedNetworks } from './unused-networks.js';
import { Upkeep } from './upkeep.js';

const REPLAY_EVERY_MS = 1_000; // chosen: current within 2 s of etcd's return
const OLD_EVERY_MS = 60_000; // chosen: a tenth of what a reservation lasts
const SNAPSHOT_WITHIN_MS = 5_000; // chosen: below every edge's deadline

export interface EngineOptions {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly kernel: Kernel;
  readonly host: HostSettings;
  readonly journalPath: string;
  readonly identity: Identity;
  readonly version: string;
  /** After so long without presence other hosts are cut off; 0: never. */
  readonly hostDeadAfterSeconds: number;
  readonly log: Logger;
}

export class Engine implements AsyncDisposable {
  readonly mirror: Mirror;
  readonly networks: Networks;
  readonly endpoints: Endpoints;
  readonly dockerEndpoints: DockerEndpoints;
  readonly netnsEndpoints: NetnsEndpoints;
  readonly dialer: Dialer;
  readonly reservations: Reservations;
  readonly hosts: Hosts;
  readonly claim: HostClaim;
  readonly reconciler: Reconciler;
  readonly journal: Journal;
  readonly options: EngineOptions;
  readonly startedAt = new Date();
  readonly #addresses: Addresses;
  readonly #stop = new AbortController();
  readonly #tasks: Promise<void>[] = [];
  readonly #started: Promise<void>;
  readonly keptTeardowns: KeptTeardowns;
  readonly orphans: Orphans;
  readonly #unused: UnusedNetworks;
  readonly #departed: Departed;
  readonly #targetNames: TargetNames;
  readonly upkeep: Upkeep;
  readonly #restored: RestoredTruth;
  #firstSnapshot: () => void = () => undefined;

  constructor(options: EngineOptions) {
    const { store, keys, kernel, host, log } = options;
    this.options = options;
    this.journal = new Journal(options.journalPath, log, () => !store.answering);
    this.mirror = new Mirror(keys, host.name, log);
    const base = { store, keys, mirror: this.mirror, log };
    this.mirror.hosts.deadAfterSeconds = options.hostDeadAfterSeconds;
    this.claim = new HostClaim({
      ...base,
      host,
      identity: options.identity,
      version: options.version,
      regained: () => this.reconciler.reconcileAll(),
    });
    this.networks = new Networks({ ...base, host });
    this.reconciler = new Reconciler({
      kernel,
      mirror: this.mirror,
      journal: this.journal,
      host,
      log,
      renamed: (id, ifName) => this.#targetNames.follow(id, ifName),
      serving: () => this.claim.refusal === undefined && !this.#restored.isUnderWay,
    });
    this.#addresses = new Addresses(store, keys, {
      host: host.name,
      log,
      bearer: (network, address) => this.#bearer(network, address),
      presence: (network, delta) => this.endpoints.presence(network, delta),
      committed: (writes, revision) => {
        this.mirror.applyCommit(writes, revision);
        this.orphans.note(writes);
      },
    });
    this.#restored = new RestoredTruth({
      ...{ ...base, addresses: this.#addresses, networks: this.networks, host: host.name },
      remove: id => this.endpoints.remove(id, { address: 'returned' }),
    });
    this.orphans = new Orphans({
      ...{ ...base, addresses: this.#addresses, host: host.name },
      look: this.#lookAtPorts,
    });
    this.hosts = new Hosts({ ...base, addresses: this.#addresses, host });
    this.reservations = new Reservations({
      ...base,
      addresses: this.#addresses,
      journal: this.journal,
      host: host.name,
      bearerForgotten: (network, address, atMs) => this.#departed.addressReturned(network, address, atMs),
    });
    this.endpoints = new Endpoints({
      ...base,
      addresses: this.#addresses,
      networks: this.networks,
      reconciler: this.reconciler,
      journal: this.journal,
      host,
    });
    const { endpoints, mirror, networks, journal, reservations, reconciler } = this;
    this.netnsEndpoints = new NetnsEndpoints({ ...base, kernel, endpoints, host: host.name });
    this.dockerEndpoints = new DockerEndpoints({ ...base, endpoints, reconciler, journal });
    const { netnsEndpoints, dockerEndpoints } = this;
    this.keptTeardowns = new KeptTeardowns({
      ...{ ...base, journal, endpoints, dockerEndpoints, reservations },
      host: host.name,
    });
    this.#departed = new Departed({ kernel, mirror, endpoints, host, log });
    this.#targetNames = new TargetNames({ kernel, mirror, endpoints, host, log });
    this.#unused = new UnusedNetworks({ mirror, networks, host: host.name, log });
    this.upkeep = new Upkeep({
      ...{ store, keys, mirror, kernel, host, log },
      addresses: this.#addresses,
      reconciler: this.reconciler,
      serving: () => this.claim.refusal === undefined,
    });
    this.dialer = new Dialer({ kernel, mirror, endpoints, netnsEndpoints, host: host.name });
    this.#started = new Promise(resolve => {
      this.#firstSnapshot = resolve;
    });
  }

  /** Begins to follow etcd, whether it answers or not. Resolves when all is as it should be, or the engine closes. */
  start(): Promise<void> {
    const { log } = this.options;
    this.mirror.onEvent(event => {
      const gone = event.kind === 'network' && !this.mirror.network(event.networkId);
      if (gone) this.#addresses.forget(event.networkId);
    });
    this.claim.start();
    const replay = setInterval(() => {
      if (this.claim.state.state !== 'held') return;
      void this.keptTeardowns.replay();
      this.#unused.tryAgain();
    }, REPLAY_EVERY_MS);
    const old = setInterval(() => void this.orphans.returnOld(), OLD_EVERY_MS);
    this.#stop.signal.addEventListener('abort', () => {
      clearInterval(replay);
      clearInterval(old);
    });
    this.#tasks.push(
      follow(this.options.store, {
        prefix: this.options.keys.followed,
        cuts: this.options.keys.followedCuts,
        signal: this.#stop.signal,
        log,
        snapshot: {
          begin: (revision, origin) => {
            if (origin === 'restored') this.#restored.remember();
            this.mirror.beginSnapshot(revision, origin);
          },
          page: entries => this.mirror.applyPage(entries),
          knows: (key, revision) => this.mirror.knows(key, revision),
          end: () => {
            this.mirror.endSnapshot();
            // After a gap: what was done to the kernel meanwhile may have been meant for another truth.
            this.#tasks.push(this.#restored.writeAnew().then(() => this.reconciler.reconcileAll()));
            this.#firstSnapshot();
          },
        },
        onChanges: (changes, revision) => this.mirror.applyChanges(changes, revision),
        onLine: up => {
          log.debug('watch of etcd', { up });
          if (up) this.claim.lookNow();
          if (up && this.claim.state.state === 'held') void this.keptTeardowns.replay();
        },
      }),
    );
    const failed = (error: unknown) => log.error('start not finished', { err: describeError(error) });
    const { claim, networks, endpoints, dockerEndpoints, reconciler, keptTeardowns, orphans, upkeep } = this;
    const begun = takeFirstSteps({
      ...{ claim, networks, endpoints, dockerEndpoints, reconciler, keptTeardowns, orphans, upkeep, log },
      departed: this.#departed,
      unused: this.#unused,
      targetNames: this.#targetNames,
      look: this.#lookAtPorts,
      snapshot: this.#started,
      signal: this.#stop.signal,
    }).catch(failed);
    this.#tasks.push(begun);
    return begun;
  }

  #lookAtPorts = () => OwnPorts.look({ ...this.options, mirror: this.mirror });

  /** @throws ConflictError: another agent has this host's name. */
  requireName(): void {
    if (this.claim.refusal) throw this.claim.refusal;
  }

  /**
   * Resolves when the mirror holds the first snapshot, and this host its name.
   * @throws UnavailableError when etcd does not answer. ConflictError: another agent has this host's name.
   */
  async ready(): Promise<void> {
    this.requireName();
    if (this.mirror.revision > 0 && this.claim.state.state === 'held') return;
    const late = sleep(SNAPSHOT_WITHIN_MS, 'late', { ref: false });
    await this.#snapshot(late);
    if ((await Promise.race([this.claim.settled(), late])) === 'late') {
      throw notYetClaimed(this.options.store.where);
    }
    this.requireName();
  }

  async #snapshot(late: Promise<string>): Promise<void> {
    if ((await Promise.race([this.#started, late])) === 'late') {
      const { where } = this.options.store;
      const text = `etcd at ${where} does not answer; check that it runs and that ETCD_HOSTS is right`;
      throw new UnavailableError(text, { etcd: where });
    }
  }

  /** MTU of a new network: what the underlay carries, less VXLAN's overhead. */
  async defaultMtu(): Promise<number> {
    const { kernel, host } = this.options;
    return (await kernel.underlay(host.vtep)).mtu - VXLAN_OVERHEAD;
  }

  /** Removes this host's endpoints of a network, those of hosts declared gone, then the network. @throws ConflictError: others use it, too. */
  async forceRemoveNetwork(id: NetworkId): Promise<void> {
    for (const endpoint of this.mirror.localEndpoints(id)) await this.endpoints.remove(endpoint.id);
    await this.hosts.clearNetwork(id);
    await this.networks.remove(id);
  }

  /** The bit of a gateway or an endpoint may be cleared by agents of the original, which misplace it above a /24. */
  #bearer(id: NetworkId, address: IpAddress): string | undefined {
    const { keys } = this.options;
    const network = this.mirror.network(id);
    if (network && addressOf(network.record.gateway) === address) return keys.network(id);
    const endpoint = this.mirror.bearerOf(id, address);
    return endpoint && keys.networkEndpoint(id, endpoint.endpointId);
  }

  /** Stops following and answering; kernel and etcd stay as they are. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.options.store.patience.abort();
    this.claim.stop();
    await Promise.all(this.#tasks);
    await this.upkeep[Symbol.asyncDispose]();
    await this.endpoints[Symbol.asyncDispose]();
    await this.reconciler[Symbol.asyncDispose]();
    await this.#addresses[Symbol.asyncDispose]();
    await this.claim[Symbol.asyncDispose]();
    this.mirror.hosts[Symbol.dispose]();
    this.journal[Symbol.dispose]();
  }
}
