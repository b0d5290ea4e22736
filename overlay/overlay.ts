/**
 * The overlay namespaces of this host, as the kernel worker serves them. No state but open descriptors of the home
 * namespace: everything else is read from the kernel when it is needed.
 */
import { KernelError, NotFoundError } from '../model/errors.js';
import type { IfName, IpAddress, NetnsPath } from '../model/scalars.js';
import { addressOf } from '../model/scalars.js';
import { compare, type Found, linkNamed, vxlanMismatch } from './diff.js';
import { findLink, finishInside, freeTargetName, linksOf } from './endpoint.js';
import { setEntries } from './entries.js';
import { compareEntries } from './entry-diff.js';
import { getAddresses, parseAddress } from './netlink/address.js';
import { Conn } from './netlink/conn.js';
import { delLink, setLink } from './netlink/link.js';
import { delArp, delFdb, getArp, getFdb } from './netlink/neighbour.js';
import { closeFd, openTcpSocket } from './netlink/socket.js';
import { connIn, createNetns, inside, listNetnsFiles, Netns, removeNetnsFile } from './netns.js';
import {
  BRIDGE,
  BRIDGE_INDEX,
  createBridge,
  createVxlan,
  deleteVxlan,
  LOOPBACK_INDEX,
  type OverlayIndexes,
  pinMac,
  switchOffNfCalls,
  VXLAN,
  VXLAN_INDEX,
} from './network.js';
import { PeerRecords, unpackPeers } from './peers.js';
import { plugAll, reap, retireAll, retireOverlays } from './ports.js';
import type {
  PlugResult,
  PortChange,
  ReconcileReport,
  Repair,
  TcpRoute,
  Underlay,
  WantedNetwork,
} from './types.js';

const LOCALHOST = '127.0.0.1' as IpAddress;
/** Chosen: short against "gone within a second", long against the kernel's 16 to 30 ms for each removal. */
const REAP_AFTER_MS = 100;

export class Overlay {
  readonly #home: Netns;
  readonly #host: Conn;
  /** Of overlays that were seen since the start; a wrong entry shows as a refusal and is read again. */
  readonly #indexes = new Map<NetnsPath, OverlayIndexes>();
  readonly #reaping = new Set<NetnsPath>();

  /** @param hostNetns the namespace that plays the host; default: the thread's own. */
  constructor(hostNetns: NetnsPath | undefined) {
    this.#home = hostNetns ? Netns.open(hostNetns) : Netns.current();
    this.#host = inside(this.#home, this.#home, () => new Conn());
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

  async reconcile(wanted: WantedNetwork): Promise<ReconcileReport> {
    const peers = new PeerRecords(wanted.peers);
    const found = Netns.find(wanted.netns);
    if (!found) return this.#create(wanted, peers);
    using netns = found;
    using conn = connIn(netns, this.#home);
    const { at, repairs } = await this.#base(conn, netns, wanted);
    if (!this.#indexes.has(wanted.netns)) conn.run(pinMac(findLink(conn, BRIDGE)));
    this.#indexes.set(wanted.netns, at);
    repairs.push(...switchOffNfCalls(netns, this.#home));
    const entries = compareEntries(
      { arp: conn.packets(getArp(at.vxlan)), fdb: conn.packets(getFdb) },
      peers,
      at.vxlan,
    );
    const rest = compare({ ...baseOf(conn), statics: entries.statics }, wanted, at);
    for (const port of rest.unfinished) finishInside(port, { home: this.#home, overlay: conn });
    conn.run([...rest.requests, ...entries.requests]);
    setEntries(conn, peers.pick(entries.unset), at.vxlan);
    retireOverlays(conn, rest.strangers);
    for (const stranger of rest.strangers) repairs.push(`${stranger}: port of no endpoint, removed`);
    if (rest.retired || rest.strangers.length > 0) this.#reapSoon(wanted.netns);
    return {
      created: false,
      repairs: [...repairs, ...rest.repairs, ...entries.repairs],
      missingPorts: rest.missingPorts,
    };
  }

  async #create(wanted: WantedNetwork, peers: PeerRecords): Promise<ReconcileReport> {
    using netns = createNetns(wanted.netns, this.#home);
    try {
      using conn = connIn(netns, this.#home);
      const at = { bridge: BRIDGE_INDEX, vxlan: VXLAN_INDEX };
      createBridge(conn, wanted);
      switchOffNfCalls(netns, this.#home);
      await createVxlan(this.#host, conn, netns, wanted, at);
      setEntries(conn, peers, at.vxlan);
      this.#indexes.set(wanted.netns, at);
    } catch (error) {
      removeNetnsFile(wanted.netns);
      throw error;
    }
    return { created: true, repairs: [], missingPorts: wanted.ports.map(({ endpointId }) => endpointId) };
  }

  /** Bridge and VXLAN of a namespace that exists: kept when they fit, made when they lack. */
  async #base(
    conn: Conn,
    netns: Netns,
    wanted: WantedNetwork,
  ): Promise<{ at: OverlayIndexes; repairs: Repair[] }> {
    const repairs: Repair[] = [];
    const links = linksOf(conn);
    const taken = new Set(links.map(({ index }) => index));
    const free = (index: number) => (taken.has(index) ? Math.max(...taken) + index : index);
    const found = linkNamed(links, BRIDGE);
    let bridge = found?.kind === 'bridge' ? found.index : undefined;
    if (bridge === undefined) {
      if (found) conn.run([delLink({ index: found.index })]);
      bridge = free(BRIDGE_INDEX);
      createBridge(conn, wanted, bridge);
      taken.add(bridge);
      repairs.push(found ? `${BRIDGE}: a ${found.kind || 'device'}, wanted a bridge` : `${BRIDGE}: missing`);
    }
    const present = linkNamed(links, VXLAN);
    const mismatch = present ? vxlanMismatch(present, wanted) : `${VXLAN}: missing`;
    if (present && !mismatch) return { at: { bridge, vxlan: present.index }, repairs };
    if (present) await deleteVxlan(conn);
    const at = { bridge, vxlan: free(VXLAN_INDEX) };
    await createVxlan(this.#host, conn, netns, wanted, at);
    repairs.push(mismatch ?? '');
    return { at, repairs };
  }

  changePorts(
    { netns: path, mtu }: Pick<WantedNetwork, 'netns' | 'mtu'>,
    { plug, unplug }: PortChange,
  ): PlugResult[] {
    const found = plug.length > 0 ? this.#known(path) : Netns.find(path);
    if (!found) {
      retireAll(unplug, this.#home, this.#host, undefined);
      this.#reapSoon(path);
      return [];
    }
    using netns = found;
    using overlay = connIn(netns, this.#home);
    if (unplug.length > 0) {
      retireAll(unplug, this.#home, this.#host, overlay);
      this.#reapSoon(path);
    }
    if (plug.length === 0) return [];
    const { bridge } = this.#indexesOf(path, overlay);
    const results = plugAll(plug, { home: this.#home, host: this.#host, overlay, bridge, mtu });
    // The bridge may be another than the one we remember: the next call looks again.
    if (results.some(result => 'error' in result)) this.#indexes.delete(path);
    return results;
  }

  freeTargetName(path: NetnsPath, promised: readonly IfName[]): IfName {
    using netns = Netns.open(path);
    using conn = connIn(netns, this.#home);
    return freeTargetName(linksOf(conn), promised);
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
  #reapSoon(path: NetnsPath): void {
    if (this.#reaping.has(path)) return;
    this.#reaping.add(path);
    setTimeout(() => {
      this.#reaping.delete(path);
      // What is left is found, by its group, by the next reconcile.
      this.#reap(path).catch(() => undefined);
    }, REAP_AFTER_MS);
  }

  /** The other ends go with those in the overlay; the host's own are for pairs whose overlay is gone. */
  async #reap(path: NetnsPath): Promise<void> {
    const found = Netns.find(path);
    if (!found) return reap(inside(this.#home, this.#home, () => new Conn()));
    using netns = found;
    await reap(connIn(netns, this.#home));
  }

  applyPeers(path: NetnsPath, change: { readonly set: Uint8Array; readonly remove: Uint8Array }): void {
    using netns = this.#known(path);
    using conn = connIn(netns, this.#home);
    const { vxlan } = this.#indexesOf(path, conn);
    const remove = unpackPeers(change.remove);
    conn.run(remove.flatMap(({ address, mac, vtep }) => [delArp(vxlan, address), delFdb(vxlan, mac, vtep)]));
    setEntries(conn, new PeerRecords(change.set), vxlan);
  }

  async removeNetwork(path: NetnsPath): Promise<void> {
    this.#indexes.delete(path);
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
    const netns = Netns.find(path);
    if (!netns) return [];
    using _netns = netns;
    using conn = connIn(netns, this.#home);
    const links = linksOf(conn);
    const bridge = linkNamed(links, BRIDGE)?.index;
    return links.filter(({ kind, master }) => kind === 'veth' && master === bridge).map(({ name }) => name);
  }

  #known(path: NetnsPath): Netns {
    const netns = Netns.find(path);
    if (netns) return netns;
    this.#indexes.delete(path);
    throw new KernelError(`Overlay namespace ${path} is gone`, { path });
  }

  #indexesOf(path: NetnsPath, conn: Conn): OverlayIndexes {
    const known = this.#indexes.get(path);
    if (known) return known;
    const [bridge, vxlan] = [findLink(conn, BRIDGE)?.index, findLink(conn, VXLAN)?.index];
    if (bridge === undefined || vxlan === undefined) {
      throw new KernelError(`Overlay namespace ${path} has lost its bridge or VXLAN`, { path });
    }
    const at = { bridge, vxlan };
    this.#indexes.set(path, at);
    return at;
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

const baseOf = (conn: Conn): Pick<Found, 'links' | 'addresses'> => ({
  links: linksOf(conn),
  addresses: conn.dump(getAddresses).flatMap(message => parseAddress(message) ?? []),
});
