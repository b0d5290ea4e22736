/**
 * The overlay namespaces of this host, as the kernel worker serves them. No state but open descriptors of the home
 * namespace: everything else is read from the kernel when it is needed.
 */
import { KernelError, NotFoundError } from '../model/errors.js';
import type { IfName, IpAddress, NetnsPath } from '../model/scalars.js';
import { addressOf } from '../model/scalars.js';
import { findLink, linksOf } from './endpoint.js';
import { setEntries } from './entries.js';
import type { RetiredPlace } from './found.js';
import { FILE_GONE, HeldNamespaces } from './held-namespaces.js';
import type { HostContext, Layout } from './layout.js';
import { layoutIn, layoutOf } from './layouts.js';
import { getAddresses, parseAddress } from './netlink/address.js';
import { Conn } from './netlink/conn.js';
import { setLink } from './netlink/link.js';
import { delArp, delFdb } from './netlink/neighbour.js';
import { closeFd, openTcpSocket } from './netlink/socket.js';
import { connIn, inside, listNetnsFiles, Netns, removeNetnsFile } from './netns.js';
import { deleteVxlan, LOOPBACK_INDEX, type OverlayIndexes, VXLAN } from './network.js';
import { PeerRecords, unpackPeers } from './peers.js';
import { reap, retireInHost } from './ports.js';
import { createNetwork, inspectNetwork, mendNetwork, type Wish } from './repair.js';
import type {
  Inspection,
  PlugResult,
  PortChange,
  ReconcileReport,
  TcpRoute,
  Underlay,
  WantedNetwork,
} from './types.js';
import { namingHolder } from './vni-holder.js';

const LOCALHOST = '127.0.0.1' as IpAddress;
/** Chosen: short against "gone within a second", long against the kernel's 16 to 30 ms for each removal. */
const REAP_AFTER_MS = 100;

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
  readonly #reaping = new Map<NetnsPath, Set<RetiredPlace>>();

  /**
   * @param hostNetns the namespace that plays the host; default: the thread's own.
   * @param onChange told when others may have changed something in an overlay that was compared before.
   */
  constructor(hostNetns: NetnsPath | undefined, onChange: (path: NetnsPath) => void) {
    this.#home = hostNetns ? Netns.open(hostNetns) : Netns.current();
    this.#host = inside(this.#home, this.#home, () => new Conn());
    this.#held = new HeldNamespaces(this.#home, onChange);
  }

  underlay(vtep: IpAddress): Underlay {
    const found = this.#host.dump(getAddresses).flatMap(message => parseAddress(message) ?? []);
    const carrier = found.find(({ address }) => addressOf(address) === vtep);
    const link = carrier && linksOf(this.#host).find(({ index }) => index === carrier.index);
    if (!link) {
      throw new NotFoundError(
        `No interface of this host has the VTEP address ${vtep}; correct PEER_IP or add the address`,
        {
          vtep,
        },
      );
    }
    return { ifName: link.name, mtu: Math.min(link.mtu, LOOPBACK_MTU_MAX) };
  }

  /** Of a thread that is about to end: descriptors belong to the process. */
  close(): void {
    this.#held[Symbol.dispose]();
    this.#host[Symbol.dispose]();
    this.#home[Symbol.dispose]();
  }

  async reconcile(wanted: WantedNetwork): Promise<ReconcileReport> {
    const { netns: path } = wanted;
    const bound = this.#held.bindAgain(path);
    // What others change from here on asks for another compare.
    this.#held.get(path)?.monitor.looked();
    return this.#held.quietly(path, async () => {
      using netns = Netns.find(path);
      const report = await namingHolder(this.#context, wanted, () =>
        netns ? this.#mend(netns, wanted) : this.#create(wanted),
      );
      this.#watch(wanted);
      return { ...report, repairs: [...bound, ...report.repairs] };
    });
  }

  #watch({ netns, dataPlane, ports }: WantedNetwork): void {
    if (!layoutOf(dataPlane).portsElsewhere) return;
    const macs = ports.map(({ targetMac }) => targetMac);
    this.#held.get(netns)?.watchPorts(macs, this.#home);
  }

  async #create(wanted: WantedNetwork): Promise<ReconcileReport> {
    const at = await createNetwork(this.#context, this.#wish(wanted));
    this.#seen.set(wanted.netns, { at, layout: layoutOf(wanted.dataPlane) });
    this.#held.hold(wanted.netns);
    return { created: true, repairs: [], missingPorts: wanted.ports.map(({ endpointId }) => endpointId) };
  }

  async #mend(netns: Netns, wanted: WantedNetwork): Promise<ReconcileReport> {
    const { at, gateway, repairs, missingPorts, retired } = await mendNetwork(
      this.#context,
      netns,
      this.#wish(wanted),
    );
    this.#seen.set(wanted.netns, { at, layout: layoutOf(wanted.dataPlane) });
    this.#held.hold(wanted.netns, gateway);
    this.#reapSoon(wanted.netns, retired);
    return { created: false, repairs, missingPorts };
  }

  /** What `reconcile` would find, without touching anything. */
  inspect(wanted: WantedNetwork): Inspection {
    const { netns: path, ports } = wanted;
    const held = this.#held.get(path);
    const away = held && !held.isAtItsPath ? [FILE_GONE] : [];
    using found = held ? undefined : Netns.find(path);
    const netns = held?.netns ?? found;
    if (!netns) {
      const missingPorts = ports.map(({ endpointId }) => endpointId);
      return { repairs: [`namespace ${path}: missing`], missingPorts, foreign: [] };
    }
    const inspection = inspectNetwork(this.#context, netns, this.#wish(wanted));
    return { ...inspection, repairs: [...away, ...inspection.repairs] };
  }

  get #context(): HostContext {
    return { home: this.#home, host: this.#host };
  }

  #wish(wanted: WantedNetwork): Wish {
    const bridgeMac = this.#held.get(wanted.netns)?.bridgeMac;
    return { wanted, peers: new PeerRecords(wanted.peers), bridgeMac };
  }

  changePorts(overlay: Pick<WantedNetwork, 'netns' | 'mtu'>, change: PortChange): Promise<PlugResult[]> {
    return this.#held.quietly(overlay.netns, () => this.#changePorts(overlay, change));
  }

  #changePorts(
    { netns: path, mtu }: Pick<WantedNetwork, 'netns' | 'mtu'>,
    { plug, unplug }: PortChange,
  ): PlugResult[] {
    const found = plug.length > 0 ? this.#known(path) : Netns.find(path);
    if (!found) {
      // Without its overlay an interface is gone, or about to be.
      retireInHost(unplug, this.#host);
      this.#reapSoon(path, ['here']);
      return [];
    }
    using netns = found;
    using overlay = connIn(netns, this.#home);
    const layout = this.#seen.get(path)?.layout ?? layoutIn(overlay);
    const context = { ...this.#context, netns, overlay };
    if (unplug.length > 0) this.#reapSoon(path, layout.retireAll(unplug, context));
    if (plug.length === 0) return [];
    const results = layout.plugAll(plug, { ...context, at: this.#seenIn(path, overlay).at, mtu });
    for (const { targetMac } of plug) this.#held.get(path)?.departures?.expectAlso(targetMac);
    // The gateway may be another than the one we remember: the next call looks again.
    if (results.some(result => 'error' in result)) this.#seen.delete(path);
    return results;
  }

  /** Undefined: the namespace is gone, or is not that of the endpoint with the address. */
  openTcpSocket(path: NetnsPath, { from, to }: TcpRoute): { readonly fd: number } | undefined {
    const found = Netns.find(path);
    if (!found) return undefined;
    using netns = found;
    const fd = inside(netns, this.#home, () => openTcpSocket(from));
    if (fd === undefined) return undefined;
    if (from === to) raiseLoopback(netns, this.#home);
    return { fd };
  }

  /** All that was retired in a while goes together, off every caller's time. */
  #reapSoon(path: NetnsPath, places: Iterable<RetiredPlace>): void {
    const known = this.#reaping.get(path);
    const due = new Set([...(known ?? []), ...places]);
    if (due.size > 0) this.#reaping.set(path, due);
    if (known || due.size === 0) return;
    setTimeout(() => {
      const places = this.#reaping.get(path) ?? [];
      this.#reaping.delete(path);
      // What is left is found, by its group, by the next reconcile.
      this.#reap(path, places).catch(() => undefined);
    }, REAP_AFTER_MS);
  }

  /** The other ends of pairs go with those in the overlay; the host's own are for networks whose overlay is gone. */
  async #reap(path: NetnsPath, places: Iterable<RetiredPlace>): Promise<void> {
    const found = Netns.find(path);
    if (!found)
      return reap(
        inside(this.#home, this.#home, () => new Conn()),
        ['here'],
      );
    using netns = found;
    await reap(connIn(netns, this.#home), places);
  }

  applyPeers(path: NetnsPath, change: PackedPeers): Promise<void> {
    return this.#held.quietly(path, () => this.#applyPeers(path, change));
  }

  #applyPeers(path: NetnsPath, change: PackedPeers): void {
    using netns = this.#known(path);
    using conn = connIn(netns, this.#home);
    const { vxlan } = this.#seenIn(path, conn).at;
    const remove = unpackPeers(change.remove);
    conn.run(remove.flatMap(({ address, mac, vtep }) => [delArp(vxlan, address), delFdb(vxlan, mac, vtep)]));
    setEntries(conn, new PeerRecords(change.set), vxlan);
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
    const found = Netns.find(path);
    if (!found) return [];
    using netns = found;
    using conn = connIn(netns, this.#home);
    return layoutIn(conn).listPorts({ ...this.#context, netns, overlay: conn });
  }

  #known(path: NetnsPath): Netns {
    const netns = Netns.find(path);
    if (netns) return netns;
    this.#seen.delete(path);
    throw new KernelError(`Overlay namespace ${path} is gone`, { path });
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

/**
 * A namespace fresh from `ip netns add` does not reach its own addresses: its loopback is down, and without address.
 * Asked by a bind, since netlink would wait for the kernel's rtnl lock, here for each connection.
 */
function raiseLoopback(netns: Netns, home: Netns): void {
  const probe = inside(netns, home, () => openTcpSocket(LOCALHOST));
  if (probe !== undefined) {
    closeFd(probe);
    return;
  }
  using conn = connIn(netns, home);
  conn.run([setLink({ index: LOOPBACK_INDEX }, { up: true })]);
}

/** A loopback VTEP, on a machine without a network, would promise packets that VXLAN cannot carry. */
const LOOPBACK_MTU_MAX = 65_535 - 50;
