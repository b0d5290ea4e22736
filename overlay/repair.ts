/** A network as a whole on this host: made, compared with what is wanted, mended; or only looked at. */
import type { MacAddress } from '../model/scalars.js';
import { baseFaults, compare, linkNamed } from './diff.js';
import { linksOf } from './endpoint.js';
import { setEntries } from './entries.js';
import { compareEntries, type EntryDifferences } from './entry-diff.js';
import type { Differences, RetiredPlace } from './found.js';
import type { HeldNetns } from './held-netns.js';
import type { HostContext, OverlayContext } from './layout.js';
import { layoutOf } from './layouts.js';
import { getAddresses, parseAddress } from './netlink/address.js';
import type { Link } from './netlink/link.js';
import { getArp, getFdb } from './netlink/neighbour.js';
import { connIn } from './netns.js';
import { type OverlayIndexes, VXLAN } from './network.js';
import type { PeerRecords } from './peers.js';
import type { Inspection, Repair, WantedNetwork } from './types.js';

/** One network as it should be. */
export interface Wish {
  readonly wanted: WantedNetwork;
  readonly peers: PeerRecords;
  /** The gateway's, where it is known from before. */
  readonly bridgeMac: MacAddress | undefined;
}

export interface Mended {
  readonly at: OverlayIndexes;
  /** As it was found, or made anew. */
  readonly gateway: Link | undefined;
  readonly repairs: readonly Repair[];
  readonly missingPorts: Differences['missingPorts'];
  /** Where interfaces were taken out of use, by this or an earlier call: they have to be deleted. */
  readonly retired: ReadonlySet<RetiredPlace>;
}

/** Makes gateway and VXLAN in a namespace that has neither, with the entries of all peers. */
export async function createNetwork(
  context: HostContext,
  { netns, settings }: HeldNetns,
  { wanted, peers }: Wish,
): Promise<OverlayIndexes> {
  using overlay = connIn(netns, context.home);
  settings.mend();
  const at = await layoutOf(wanted.dataPlane).create({ ...context, netns, overlay }, wanted);
  setEntries(overlay, peers, at.vxlan);
  return at;
}

/** Makes a network that exists as it is wanted. */
export async function mendNetwork(
  context: HostContext,
  { netns, settings }: HeldNetns,
  wish: Wish,
): Promise<Mended> {
  const { wanted, peers } = wish;
  using overlay = connIn(netns, context.home);
  const inside = { ...context, netns, overlay };
  const layout = layoutOf(wanted.dataPlane);
  const { at, repairs, links = linksOf(overlay) } = await layout.ensure(inside, wanted);
  repairs.push(...settings.mend());
  const { rest, entries } = compareRest(inside, wish, { at, links });
  overlay.run(rest.requests);
  for (const port of rest.unfinished) layout.finish(port, { ...inside, at, mtu: wanted.mtu });
  overlay.run([...rest.marks, ...entries.requests]);
  setEntries(overlay, peers.pick(entries.unset), at.vxlan);
  await layout.retireStrangers(rest.strangers, inside);
  for (const { name } of rest.strangers) repairs.push(`${name}: port of no endpoint, removed`);
  if (rest.strangers.length > 0) rest.retired.add('here');
  return {
    at,
    gateway: linkNamed(links, layout.gateway),
    repairs: [...repairs, ...rest.repairs, ...entries.repairs],
    missingPorts: rest.missingPorts,
    retired: rest.retired,
  };
}

/** What `mendNetwork` would find. Changes nothing. */
export function inspectNetwork(context: HostContext, { netns, settings }: HeldNetns, wish: Wish): Inspection {
  using overlay = connIn(netns, context.home);
  const links = linksOf(overlay);
  const layout = layoutOf(wish.wanted.dataPlane);
  const { gateway, vxlan } = baseFaults(links, wish.wanted, layout);
  const base = [gateway, vxlan, ...settings.faults()].filter(fault => fault !== undefined);
  // What is to be made anew has nothing to be compared.
  const at = {
    gateway: (gateway === undefined && linkNamed(links, layout.gateway)?.index) || -1,
    vxlan: (vxlan === undefined && linkNamed(links, VXLAN)?.index) || -1,
  };
  const { rest, entries } = compareRest({ ...context, netns, overlay }, wish, { at, links });
  const strangers = rest.strangers.map(({ name }) => `${name}: port of no endpoint`);
  const below = gateway || vxlan ? [] : [...rest.repairs, ...entries.repairs];
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

/** Everything but whether gateway and VXLAN can be kept. */
function compareRest(
  context: OverlayContext,
  { wanted, peers, bridgeMac }: Wish,
  { at, links }: { readonly at: OverlayIndexes; readonly links: readonly Link[] },
): Rest {
  const { overlay } = context;
  const layout = layoutOf(wanted.dataPlane);
  const arp = at.vxlan > 0 ? overlay.packets(getArp(at.vxlan)) : [];
  const entries = compareEntries({ arp, fdb: overlay.packets(getFdb) }, peers, at.vxlan);
  const addresses = overlay.dump(getAddresses).flatMap(message => parseAddress(message) ?? []);
  const macvlans = layout.findElsewhere(context, wanted.ports, at.vxlan);
  const found = { links, addresses, statics: entries.statics, macvlans, bridgeMac };
  return { rest: compare(found, wanted, at, layout), entries };
}
