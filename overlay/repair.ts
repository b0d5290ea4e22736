/** A network as a whole on this host: made, compared with what is wanted, mended; or only looked at. */
import type { MacAddress } from '../model/scalars.js';
import { baseFaults, compare, type Differences, linkNamed } from './diff.js';
import { finishInside, linksOf } from './endpoint.js';
import { setEntries } from './entries.js';
import { compareEntries, type EntryDifferences } from './entry-diff.js';
import { getAddresses, parseAddress } from './netlink/address.js';
import type { Conn } from './netlink/conn.js';
import { delLink } from './netlink/link.js';
import { getArp, getFdb } from './netlink/neighbour.js';
import { connIn, createNetns, type Netns, removeNetnsFile } from './netns.js';
import {
  BRIDGE,
  BRIDGE_INDEX,
  createBridge,
  createVxlan,
  deleteVxlan,
  type OverlayIndexes,
  VXLAN,
  VXLAN_INDEX,
} from './network.js';
import type { PeerRecords } from './peers.js';
import { retireOverlays } from './ports.js';
import { applySettings, wrongSettings } from './settings.js';
import type { Inspection, Repair, WantedNetwork } from './types.js';

/** Where the host is, and a socket there. */
export interface HostContext {
  readonly home: Netns;
  readonly host: Conn;
}

/** One network as it should be. */
export interface Wish {
  readonly wanted: WantedNetwork;
  readonly peers: PeerRecords;
  /** The bridge's, where it is known from before. */
  readonly bridgeMac: MacAddress | undefined;
}

export interface Mended {
  readonly at: OverlayIndexes;
  readonly repairs: readonly Repair[];
  readonly missingPorts: Differences['missingPorts'];
  /** Interfaces were taken out of use, by this or an earlier call: they have to be deleted. */
  readonly retired: boolean;
}

/** Makes namespace, bridge and VXLAN, with the entries of all peers. */
export async function createNetwork(
  { home, host }: HostContext,
  { wanted, peers }: Wish,
): Promise<OverlayIndexes> {
  using netns = createNetns(wanted.netns, home);
  try {
    using conn = connIn(netns, home);
    const at = { bridge: BRIDGE_INDEX, vxlan: VXLAN_INDEX };
    applySettings(netns, home);
    createBridge(conn, wanted);
    await createVxlan(host, conn, netns, wanted, at);
    setEntries(conn, peers, at.vxlan);
    return at;
  } catch (error) {
    removeNetnsFile(wanted.netns);
    throw error;
  }
}

/** Makes a network that exists as it is wanted. */
export async function mendNetwork(context: HostContext, netns: Netns, wish: Wish): Promise<Mended> {
  const { home } = context;
  const { wanted, peers } = wish;
  using conn = connIn(netns, home);
  const { at, repairs } = await ensureBase(context, { conn, netns, wanted });
  repairs.push(...applySettings(netns, home));
  const { rest, entries } = compareRest(conn, wish, at);
  for (const port of rest.unfinished) finishInside(port, { home, overlay: conn });
  conn.run([...rest.requests, ...entries.requests]);
  setEntries(conn, peers.pick(entries.unset), at.vxlan);
  retireOverlays(conn, rest.strangers);
  for (const stranger of rest.strangers) repairs.push(`${stranger}: port of no endpoint, removed`);
  return {
    at,
    repairs: [...repairs, ...rest.repairs, ...entries.repairs],
    missingPorts: rest.missingPorts,
    retired: rest.retired || rest.strangers.length > 0,
  };
}

/** What `mendNetwork` would find. Changes nothing. */
export function inspectNetwork({ home }: HostContext, netns: Netns, wish: Wish): Inspection {
  using conn = connIn(netns, home);
  const links = linksOf(conn);
  const { bridge, vxlan } = baseFaults(links, wish.wanted);
  const base = [bridge, vxlan, ...wrongSettings(netns, home)].filter(fault => fault !== undefined);
  // What is to be made anew has nothing to be compared.
  const at = {
    bridge: (bridge === undefined && linkNamed(links, BRIDGE)?.index) || -1,
    vxlan: (vxlan === undefined && linkNamed(links, VXLAN)?.index) || -1,
  };
  const { rest, entries } = compareRest(conn, wish, at);
  const strangers = rest.strangers.map(name => `${name}: port of no endpoint`);
  const below = bridge || vxlan ? [] : [...rest.repairs, ...entries.repairs];
  return {
    repairs: [...base, ...strangers, ...below],
    missingPorts: rest.missingPorts,
    foreign: rest.foreign,
  };
}

interface Rest {
  readonly rest: Differences;
  readonly entries: EntryDifferences;
}

/** Everything but whether bridge and VXLAN can be kept. */
function compareRest(conn: Conn, { wanted, peers, bridgeMac }: Wish, at: OverlayIndexes): Rest {
  const packets = { arp: at.vxlan > 0 ? conn.packets(getArp(at.vxlan)) : [], fdb: conn.packets(getFdb) };
  const entries = compareEntries(packets, peers, at.vxlan);
  const links = linksOf(conn);
  const addresses = conn.dump(getAddresses).flatMap(message => parseAddress(message) ?? []);
  return { rest: compare({ links, addresses, statics: entries.statics, bridgeMac }, wanted, at), entries };
}

interface Place {
  readonly conn: Conn;
  readonly netns: Netns;
  readonly wanted: WantedNetwork;
}

/** Bridge and VXLAN of a namespace that exists: kept when they fit, made when they lack. */
async function ensureBase(
  { host }: HostContext,
  { conn, netns, wanted }: Place,
): Promise<{ at: OverlayIndexes; repairs: Repair[] }> {
  const repairs: Repair[] = [];
  const links = linksOf(conn);
  const faults = baseFaults(links, wanted);
  const taken = new Set(links.map(({ index }) => index));
  const free = (index: number) => (taken.has(index) ? Math.max(...taken) + index : index);
  const found = linkNamed(links, BRIDGE);
  let bridge = found?.index ?? 0;
  if (faults.bridge !== undefined) {
    if (found) conn.run([delLink({ index: found.index })]);
    bridge = free(BRIDGE_INDEX);
    createBridge(conn, wanted, bridge);
    taken.add(bridge);
    repairs.push(faults.bridge);
  }
  const present = linkNamed(links, VXLAN);
  if (present && faults.vxlan === undefined) return { at: { bridge, vxlan: present.index }, repairs };
  if (present) await deleteVxlan(conn);
  const at = { bridge, vxlan: free(VXLAN_INDEX) };
  await createVxlan(host, conn, netns, wanted, at);
  repairs.push(faults.vxlan ?? '');
  return { at, repairs };
}
