/**
 * The overlay namespaces of this host, as the kernel worker serves them. No state but open descriptors and, as a guess, what
 * was seen where: everything else is read from the kernel when it is needed.
 */
import { KernelError } from '../model/errors.js';
import type { IfName, IpAddress, NetnsPath } from '../model/scalars.js';
import { BarePairs } from './bare-pairs.js';
import { findLink, linksOf } from './endpoint.js';
import { setEntries } from './entries.js';
import { FILE_GONE, HeldNamespaces } from './held-namespaces.js';
import { HeldNetns } from './held-netns.js';
import type { HostContext, Layout, OverlayContext } from './layout.js';
import { layoutIn, layoutOf } from './layouts.js';
import type { Conn } from './netlink/conn.js';
import type { Link } from './netlink/link.js';
import { delArp, delFdb } from './netlink/neighbour.js';
import { connIn, inside, listNetnsFiles, Netns, removeNetnsFile } from './netns.js';
import { deleteVxlan, type OverlayIndexes, pinMac, VXLAN } from './network.js';
import { PeerRecords, unpackPeers } from './peers.js';
import { retireInHost } from './ports.js';
import { Reaper } from './reaper.js';
import { createNetwork, inspectNetwork, mendNetwork, type Wish } from './repair.js';
import { openTcpSocketIn } from './tcp-socket.js';
import type {
  BarePort,
  Inspection,
  OverlayPlace,
  PlugResult,
  PortChange,
  ReconcileReport,
  TcpRoute,
  Underlay,
  WantedNetwork,
  WantedPort,
} from './types.js';
import { openUnderlayNews, underlayAt } from './underlay.js';
import { namingHolder } from './vni-holder.js';

interface PackedPeers {
  readonly set: Uint8Array;
  readonly remove: Uint8Array;
}

interface SeenOverlay {
  readonly layout: Layout;
  readonly at: OverlayIndexes;
}

export class Overlay {
  readonly #home: Netns;
  readonly #host: Conn;
  /** Of overlays that were seen since the start; a wrong entry shows as a refusal and is read again. */
  readonly #seen = new Map<NetnsPath, SeenOverlay>();
  readonly #held: HeldNamespaces;
  readonly #bare = new BarePairs();
  readonly #reaper: Reaper;

  /**
   * @param hostNetns the namespace that plays the host; default: the thread's own.
   * @param onChange told when others may have changed something in an overlay that was compared before.
   */
  constructor(hostNetns: NetnsPath | undefined, onChange: (path: NetnsPath) => void) {
    this.#home = hostNetns ? Netns.open(hostNetns) : Netns.current();
    this.#host = connIn(this.#home, this.#home);
    this.#held = new HeldNamespaces(this.#home, onChange);
    this.#reaper = new Reaper(this.#home);
  }

  underlay(vtep: IpAddress): Underlay {
    return underlayAt(vtep, this.#host);
  }

  /** A descriptor for whoever remembers what `underlay` answered. */
  openUnderlayNews(): { readonly fd: number } {
    return { fd: inside(this.#home, this.#home, openUnderlayNews) };
  }

  /** Of a thread that is about to end: descriptors belong to the process. */
  close(): void {
    this.#held[Symbol.dispose]();
    this.#bare[Symbol.dispose]();
    this.#host[Symbol.dispose]();
    this.#home[Symbol.dispose]();
  }

  async reconcile(wanted: WantedNetwork): Promise<ReconcileReport> {
    const { netns: path } = wanted;
    const bound = this.#held.bindAgain(path);
    const held = this.#held.get(path);
    const report = await namingHolder(this.#context, wanted, () =>
      held ? this.#compareHeld(held, wanted) : this.#held.quietly(path, () => this.#begin(wanted)),
    );
    this.#watch(wanted);
    return { ...report, repairs: [...bound, ...report.repairs] };
  }

  /** What others change meanwhile asks for another compare; what we mend does not, and hides what else was told. */
  async #compareHeld(held: HeldNetns, wanted: WantedNetwork): Promise<ReconcileReport> {
    const { monitor } = held;
    monitor.looked();
    let mended = true;
    try {
      const report = await this.#mend(held, wanted);
      mended = report.repairs.length > 0;
      return report;
    } finally {
      if (mended) monitor.looked();
    }
  }

  #begin(wanted: WantedNetwork): Promise<ReconcileReport> {
    const held = this.#held.hold(wanted.netns);
    return held ? this.#mend(held, wanted) : this.#create(wanted);
  }

  #watch({ netns, dataPlane, ports }: WantedNetwork): void {
    if (!layoutOf(dataPlane).portsElsewhere) return;
    const macs = ports.map(({ targetMac }) => targetMac);
    this.#held.get(netns)?.watchPorts(macs);
  }

  async #create(wanted: WantedNetwork): Promise<ReconcileReport> {
    const { netns: path, dataPlane, ports } = wanted;
    const held = this.#held.make(path);
    try {
      const at = await createNetwork(this.#context, held, this.#wish(wanted));
      this.#adopt(held, { at, layout: layoutOf(dataPlane) });
    } catch (error) {
      this.#held.release(path);
      removeNetnsFile(path);
      throw error;
    }
    return { created: true, repairs: [], missingPorts: ports.map(({ endpointId }) => endpointId) };
  }

  async #mend(held: HeldNetns, wanted: WantedNetwork): Promise<ReconcileReport> {
    const mended = await mendNetwork(this.#context, held, this.#wish(wanted));
    const { at, gateway, repairs, missingPorts, retired } = mended;
    this.#adopt(held, { at, layout: layoutOf(wanted.dataPlane) }, gateway);
    this.#reaper.soon(wanted.netns, retired);
    return { created: false, repairs, missingPorts };
  }

  /** @param found the gateway, by whoever has just looked */
  #adopt(held: HeldNetns, seen: SeenOverlay, found?: Link): void {
    this.#seen.set(held.netns.path, seen);
    if (held.bridgeMac !== undefined) return;
    const gateway = found ?? findLink(held.conn, seen.layout.gateway);
    held.conn.run(pinMac(gateway));
    held.bridgeMac = gateway?.mac;
  }

  /** What `reconcile` would find, without touching anything. */
  inspect(wanted: WantedNetwork): Inspection {
    const { netns: path, ports } = wanted;
    const held = this.#held.get(path);
    const away = held && !held.isAtItsPath ? [FILE_GONE] : [];
    using found = held ? undefined : HeldNetns.find(path, this.#home);
    const looked = held ?? found;
    if (!looked) {
      const missingPorts = ports.map(({ endpointId }) => endpointId);
      return { repairs: [`namespace ${path}: missing`], missingPorts, foreign: [] };
    }
    const inspection = inspectNetwork(this.#context, looked, this.#wish(wanted));
    return { ...inspection, repairs: [...away, ...inspection.repairs] };
  }

  get #context(): HostContext {
    return { home: this.#home, host: this.#host };
  }

  #wish(wanted: WantedNetwork): Wish {
    const bridgeMac = this.#held.get(wanted.netns)?.bridgeMac;
    return { wanted, peers: new PeerRecords(wanted.peers), bridgeMac };
  }

  changePorts(overlay: OverlayPlace, change: PortChange): Promise<PlugResult[]> {
    return this.#held.quietly(overlay.netns, () => this.#changePorts(overlay, change));
  }

  #changePorts({ netns: path, mtu }: OverlayPlace, { plug, unplug }: PortChange): PlugResult[] {
    for (const { overlayVeth } of unplug) this.#bare.forget(overlayVeth);
    const done = this.#within(path, place => {
      const layout = this.#seen.get(path)?.layout ?? layoutIn(place.overlay);
      if (unplug.length > 0) this.#reaper.soon(path, layout.retireAll(unplug, place));
      if (plug.length === 0) return [];
      const finished = plug.map(port => this.#bare.finish(port, place));
      const others = plug.filter((_, i) => !finished[i]);
      const made = layout.plugAll(others, { ...place, at: this.#seenIn(path, place.overlay).at, mtu });
      return finished.map(result => result ?? (made.shift() as PlugResult));
    });
    if (!done && plug.length > 0) throw this.#gone(path);
    if (!done) {
      // Without its overlay an interface is gone, or about to be.
      retireInHost(unplug, this.#host);
      this.#reaper.soon(path, ['here']);
      return [];
    }
    for (const { targetMac } of plug) this.#held.get(path)?.departures?.expectAlso(targetMac);
    // The gateway may be another than the one we remember: the next call looks again.
    if (done.some(result => 'error' in result)) this.#seen.delete(path);
    return done;
  }

  /** Of a network that is here: elsewhere nothing is made ahead. */
  makeBare({ netns: path, mtu }: OverlayPlace, port: BarePort): Promise<void> {
    return this.#held.quietly(path, () => {
      const at = this.#seen.get(path)?.at;
      if (at) this.#within(path, place => this.#bare.make(port, { ...place, at, mtu }));
    });
  }

  /** In the overlay that is held, else in the one at its path; undefined where there is neither. */
  #within<T>(path: NetnsPath, work: (place: OverlayContext) => T): T | undefined {
    const held = this.#held.get(path);
    if (held) return work({ ...this.#context, netns: held.netns, overlay: held.conn });
    const found = Netns.find(path);
    if (!found) return undefined;
    using netns = found;
    using overlay = connIn(netns, this.#home);
    return work({ ...this.#context, netns, overlay });
  }

  /** Undefined: the namespace is gone, or is not that of the endpoint with the address. */
  openTcpSocket(path: NetnsPath, route: TcpRoute): { readonly fd: number } | undefined {
    return openTcpSocketIn(path, route, this.#home);
  }

  applyPeers(path: NetnsPath, change: PackedPeers): Promise<void> {
    return this.#held.quietly(path, () => this.#applyPeers(path, change));
  }

  #applyPeers(path: NetnsPath, change: PackedPeers): void {
    const remove = unpackPeers(change.remove);
    const done = this.#within(path, ({ overlay }) => {
      const { vxlan } = this.#seenIn(path, overlay).at;
      overlay.run(
        remove.flatMap(({ address, mac, vtep }) => [delArp(vxlan, address), delFdb(vxlan, mac, vtep)]),
      );
      setEntries(overlay, new PeerRecords(change.set), vxlan);
      return 'done';
    });
    if (!done) throw this.#gone(path);
  }

  async removeNetwork(path: NetnsPath): Promise<void> {
    this.#seen.delete(path);
    this.#held.bindAgain(path);
    this.#held.release(path);
    const netns = Netns.find(path);
    if (netns) {
      using _netns = netns;
      using conn = connIn(netns, this.#home);
      await deleteVxlan(conn);
    }
    removeNetnsFile(path);
  }

  listNamespaces(directory: string, prefix: string): NetnsPath[] {
    return listNetnsFiles(directory, prefix);
  }

  listHostLinks(): IfName[] {
    return linksOf(this.#host).map(({ name }) => name);
  }

  listPorts(path: NetnsPath): IfName[] {
    return this.#within(path, place => layoutIn(place.overlay).listPorts(place)) ?? [];
  }

  /** In the order of `ports`; undefined: there is none, or the overlay is gone. */
  namesOfTargets(path: NetnsPath, ports: readonly WantedPort[]): (IfName | undefined)[] {
    return this.#within(path, place => layoutIn(place.overlay).namesOfTargets(ports, place)) ?? [];
  }

  #gone(path: NetnsPath): KernelError {
    this.#seen.delete(path);
    return new KernelError(`Overlay namespace ${path} is gone`, { path });
  }

  #seenIn(path: NetnsPath, conn: Conn): SeenOverlay {
    const known = this.#seen.get(path);
    if (known) return known;
    const layout = layoutIn(conn);
    const [gateway, vxlan] = [layout.gateway, VXLAN].map(name => findLink(conn, name)?.index);
    if (gateway === undefined || vxlan === undefined) {
      throw new KernelError(`Overlay namespace ${path} has lost its gateway or VXLAN`, { path });
    }
    const seen = { at: { gateway, vxlan }, layout };
    this.#seen.set(path, seen);
    return seen;
  }
}
