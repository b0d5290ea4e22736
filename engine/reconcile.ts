/**
 * Makes the kernel equal to the truth, network by network. Creation, removal, start-up, repair and recovery are all
 * the same: what is wanted of a network is computed from the mirror, and the kernel worker reads, compares, applies.
 * Known small differences (a port, some peers) are applied directly; the next reconcile proves them right.
 */
import { describeError, UnavailableError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import type { Network } from '../model/records.js';
import {
  type EndpointId,
  type IfName,
  isNetworkId,
  type NetnsPath,
  type NetworkId,
} from '../model/scalars.js';
import { someAtOnce } from '../model/some-at-once.js';
import { CALLS_AT_ONCE, type Kernel } from '../overlay/kernel.js';
import type { BarePort, Inspection, WantedNetwork, WantedPort } from '../overlay/types.js';
import { BarePorts } from './bare-ports.js';
import { type HostSettings, netnsOf } from './host.js';
import type { Journal } from './journal.js';
import { KeyedMutex } from './keyed-mutex.js';
import { KeyedTimers } from './keyed-timers.js';
import { bridgeFull, endpointsMaxOf } from './limits.js';
import type { Mirror, MirrorEvent } from './mirror.js';
import { MissingPorts, type Renamed } from './missing-ports.js';
import { Patrol } from './patrol.js';
import { PeerChanges } from './peer-changes.js';
import { PortBook } from './port-book.js';
import { PortChanges } from './port-changes.js';
import { RepairBook } from './repair-book.js';
import { requireUnderlay } from './underlay.js';
import { wantedNetwork } from './wanted.js';

// Chosen by us.
const LINGER_MS = 400; // an empty overlay namespace waits this long for the next join
// A full compare when the kernel tells of changes: repairs within 2 s, and no more than these for networks that are busy.
const SETTLES_WITHIN_MS = 150; // what belongs to one damage comes together
const COMPARED_EVERY_MS = 1_300;

export interface ReconcilerDependencies {
  readonly kernel: Kernel;
  readonly mirror: Mirror;
  readonly journal: Journal;
  readonly host: HostSettings;
  readonly log: Logger;
  readonly renamed: Renamed;
  /** False: another agent has this host's name, and the kernel is left as it is. */
  serving(): boolean;
}

export class Reconciler implements AsyncDisposable {
  readonly #deps: ReconcilerDependencies;
  readonly book: RepairBook;
  readonly #mutex = new KeyedMutex<NetworkId>();
  /** Networks whose overlay namespace this agent is setting up, has set up or has seen. */
  readonly #present = new Set<NetworkId>();
  readonly ports: PortBook;
  readonly bare = new BarePorts();
  readonly #portChanges: PortChanges;
  readonly #peerChanges: PeerChanges;
  readonly #missing: MissingPorts;
  readonly #timers = new KeyedTimers<NetworkId>(
    id => void this.reconcile(id).catch(error => this.#complain(id, error)),
  );
  readonly #comparedAt = new Map<NetworkId, number>();
  readonly patrol: Patrol;

  constructor(deps: ReconcilerDependencies) {
    this.#deps = deps;
    this.#peerChanges = new PeerChanges(deps.mirror, deps.kernel, deps.host);
    this.ports = new PortBook(deps.mirror, deps.journal);
    this.#portChanges = new PortChanges({
      kernel: deps.kernel,
      host: deps.host,
      bare: this.bare,
      inTurn: (id, work) => this.#mutex.run(id, work),
      prepare: network => this.#prepare(network),
      repair: id => this.#reconcile(id),
      changed: id => {
        this.patrol.doubted.add(id);
        if (!this.ports.wantsAny(id)) this.#timers.in(LINGER_MS, id);
      },
    });
    this.patrol = new Patrol({
      present: this.#present,
      isReady: () => deps.mirror.revision > 0,
      compare: id => this.#compared(id),
    });
    this.book = new RepairBook(deps.log);
    this.#missing = new MissingPorts(deps.kernel, deps.mirror, deps);
    deps.mirror.onEvent(event => this.#onEvent(event));
    deps.kernel.onChange(netns => this.#onNews(netns));
    deps.mirror.hosts.onCutOff(hostname => {
      for (const id of this.#present) if (deps.mirror.hasPeerOn(id, hostname)) this.#timers.in(0, id);
    });
  }

  /**
   * After the first snapshot: every namespace of ours and every network with a local endpoint.
   * Answers which endpoints have no interface.
   */
  async start(): Promise<EndpointId[]> {
    const { kernel, mirror, host, log } = this.#deps;
    const wanted = new Set(mirror.localEndpoints().map(({ network_id }) => network_id));
    const found = await kernel.listNamespaces(host.netnsPath, host.netnsPrefix).catch(error => {
      log.error('overlay namespaces not listed', { directory: host.netnsPath, err: describeError(error) });
      return [];
    });
    for (const path of found) {
      const id = path.slice(path.lastIndexOf('/') + 1 + host.netnsPrefix.length);
      if (!isNetworkId(id)) continue;
      if (mirror.network(id)) {
        this.#present.add(id);
        wanted.add(id);
      } else await this.#reportUnknown(id).catch(error => this.#complain(id, error));
    }
    const missing = await someAtOnce(wanted, CALLS_AT_ONCE, id => this.#compared(id));
    this.patrol.start();
    return missing.flat();
  }

  /** One network, now. Serialised with every other change of it. Answers which endpoints have no interface. */
  reconcile(id: NetworkId): Promise<readonly EndpointId[]> {
    return this.#mutex.run(id, () => this.#reconcile(id));
  }

  /** The same; what fails is in the book. */
  async #compared(id: NetworkId): Promise<readonly EndpointId[]> {
    return (await this.reconcile(id).catch(error => this.#complain(id, error))) ?? [];
  }

  #complain(id: NetworkId, error: unknown): void {
    this.patrol.doubted.add(id);
    this.book.complain(id, error);
  }

  /** Makes the endpoint's interface, and the network around it when it is the first. @throws ExhaustedError: no port is left. */
  async join(network: Network, port: WantedPort): Promise<IfName> {
    const { id } = network.record;
    const most = endpointsMaxOf(network);
    // Passive ones are among them.
    if (this.#deps.mirror.localCount(id) > most && this.ports.wanted(id).length > most) throw bridgeFull(id);
    this.ports.join(id, port);
    return this.#portChanges.plug(network, port);
  }

  /** Begins an endpoint's interface beside the transaction of its record, in a network that is here and at rest. */
  makeBare(network: Network, port: BarePort): void {
    const { id } = network.record;
    const { mirror, serving } = this.#deps;
    if (!this.#present.has(id) || !this.#mutex.isIdle(id) || !serving()) return;
    if (mirror.localCount(id) < endpointsMaxOf(network)) this.#portChanges.makeBare(network, port);
  }

  /** Takes the endpoint's interface away; its slow removal by the kernel follows. */
  unplug(id: NetworkId, port: BarePort): Promise<void> {
    this.ports.leave(port.endpointId, port.overlayVeth);
    this.ports.joined(id, port.endpointId);
    return this.#portChanges.unplug(id, port);
  }

  async #prepare(network: Network): Promise<void> {
    const { id } = network.record;
    if (this.#present.has(id)) return;
    if (!this.#deps.serving()) {
      throw new UnavailableError('etcd was restored from a backup a moment ago; try again', {
        network_id: id,
      });
    }
    await requireUnderlay(this.#deps.kernel, this.#deps.host, network);
    await this.#reconcile(id);
  }

  #wanted(network: Network): WantedNetwork | undefined {
    const { id } = network.record;
    const { mirror, host } = this.#deps;
    return wantedNetwork(host, network, {
      ports: this.ports.wanted(id),
      leaving: [...this.ports.leavingInterfaces(), ...this.bare.interfaces()],
      peers: mirror.neighbours(id),
    });
  }

  async #reconcile(id: NetworkId): Promise<readonly EndpointId[]> {
    const { kernel, mirror, log, serving } = this.#deps;
    if (!serving()) return [];
    const network = mirror.network(id);
    const wanted = network && this.#wanted(network);
    if (!wanted) {
      this.patrol.doubted.delete(id);
      if (this.bare.isIn(id)) this.#timers.in(LINGER_MS, id);
      else if (this.#present.has(id)) await this.#removeFromHost(id);
      return [];
    }
    const isNew = !this.#present.has(id);
    // Whatever changed up to here is in `wanted`; what changes from here on is queued behind it.
    if (isNew) this.#peerChanges.drop(id);
    // Of what is waiting nothing is damage. Where it cannot be done, the compare does it.
    else await this.#peerChanges.apply(id).catch(() => undefined);
    this.#present.add(id);
    this.#comparedAt.set(id, performance.now());
    const { created, missingPorts, ...report } = await kernel.reconcile(wanted).catch(error => {
      if (isNew) this.#present.delete(id);
      throw error;
    });
    this.patrol.doubted.delete(id);
    if (created) log.info('overlay namespace created', { network_id: id, vni: wanted.vni, mtu: wanted.mtu });
    const gone = created && !isNew ? ['overlay namespace: gone'] : [];
    this.book.compared(id, [...report.repairs, ...gone]);
    const lost = wanted.ports.filter(
      ({ endpointId }) => missingPorts.includes(endpointId) && !this.ports.isJoining(id, endpointId),
    );
    const { repairs, missing } = await this.#missing.restore(wanted, lost);
    this.book.add(repairs);
    if (report.repairs.length + repairs > 0) this.patrol.doubted.add(id);
    return missing;
  }

  async #removeFromHost(id: NetworkId): Promise<void> {
    const { kernel, host, log } = this.#deps;
    await kernel.removeNetwork(netnsOf(host, id));
    this.#present.delete(id);
    this.#comparedAt.delete(id);
    this.#peerChanges.drop(id);
    log.info('overlay namespace removed', { network_id: id });
  }

  /** What `reconcile` would find in each network that is here or should be, without touching anything. */
  async inspectAll(): Promise<ReadonlyMap<NetworkId, Inspection>> {
    const { kernel, mirror } = this.#deps;
    const ids = new Set([...this.#present, ...mirror.localEndpoints().map(({ network_id }) => network_id)]);
    const found = new Map<NetworkId, Inspection>();
    for (const id of ids) {
      const network = mirror.network(id);
      const wanted = network && this.#wanted(network);
      if (wanted) found.set(id, await kernel.inspect(wanted));
    }
    return found;
  }

  #onEvent(event: MirrorEvent): void {
    const { networkId: id } = event;
    if (!this.#present.has(id) || this.#deps.mirror.revision === 0) return;
    if (event.kind === 'network') this.#timers.in(0, id);
    if (event.kind === 'local' && !this.ports.wantsAny(id)) this.#timers.in(LINGER_MS, id);
    // Removed by somebody else.
    else if (event.kind === 'local' && event.gone && !this.ports.isLeaving(event.gone))
      this.#timers.in(0, id);
    if (event.kind === 'peer' && this.#peerChanges.note(event)) {
      void this.#mutex
        .run(id, () => this.#applyPeers(id))
        .catch(error => {
          this.#complain(id, error);
          this.#timers.in(LINGER_MS, id);
        });
    }
  }

  /** Every network that is here, soon. */
  reconcileAll(): void {
    for (const id of this.#present) this.#timers.in(0, id);
  }

  async #applyPeers(id: NetworkId): Promise<void> {
    if (!this.#present.has(id) || !this.#deps.serving()) return this.#peerChanges.drop(id);
    this.patrol.doubted.add(id);
    await this.#peerChanges.apply(id);
  }

  /** Somebody else may have changed something; our own changes may say so, too, a moment later. */
  #onNews(netns: NetnsPath): void {
    const { netnsPath, netnsPrefix } = this.#deps.host;
    const id = netns.slice(netnsPath.length + 1 + netnsPrefix.length);
    if (!isNetworkId(id) || !this.#present.has(id)) return;
    const since = performance.now() - (this.#comparedAt.get(id) ?? 0);
    this.#timers.in(Math.max(SETTLES_WITHIN_MS, COMPARED_EVERY_MS - since), id);
  }

  /** A namespace of ours whose network etcd does not know may carry living containers: it is left alone. */
  async #reportUnknown(id: NetworkId): Promise<void> {
    const { kernel, host, log } = this.#deps;
    const netns = netnsOf(host, id);
    const ports = await kernel.listPorts(netns);
    if (ports.length > 0) {
      log.warn('overlay namespace of an unknown network left alone', { network_id: id, netns, ports });
      return;
    }
    this.#present.add(id);
    await this.reconcile(id);
  }

  /** Waits for changes in flight; the data plane stays as it is. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#timers[Symbol.dispose]();
    await this.patrol[Symbol.asyncDispose]();
    await this.#mutex.idle();
  }
}
