/** The veth pair of one endpoint whose target is a namespace that somebody names: any container, any process. */
import { KernelError } from '../model/errors.js';
import type { IfName, InterfaceAddress, MacAddress, NetnsPath } from '../model/scalars.js';
import type { OverlayContext, PlugContext } from './layout.js';
import { newAddress, setNoLinkLocal } from './netlink/address.js';
import { setPort } from './netlink/bridge.js';
import type { Conn, Request } from './netlink/conn.js';
import { REMOVAL_GROUP } from './netlink/constants.js';
import {
  delLink,
  getLink,
  getLinkAt,
  getLinks,
  type Link,
  newVeth,
  parseLink,
  setLink,
} from './netlink/link.js';
import { setStatic } from './netlink/neighbour.js';
import { connIn, Netns } from './netns.js';
import { freeTargetName } from './target-name.js';
import type { BarePort, PortTarget, WantedPort } from './types.js';

export const linksOf = (conn: Conn): Link[] =>
  conn.dump(getLinks).flatMap(message => parseLink(message) ?? []);

export const findLink = (conn: Conn, name: IfName): Link | undefined =>
  conn.run([getLink(name)]).flatMap(message => parseLink(message) ?? [])[0];

export type InsideTarget = Extract<PortTarget, { kind: 'netns' }>;

/**
 * Puts the target's end straight into its namespace, addressed and up. A pair that is there is kept: its end is found
 * by MAC, since others rename interfaces.
 */
export function plugInside(port: WantedPort, target: InsideTarget, context: PlugContext): IfName {
  using netns = Netns.open(target.path);
  using conn = connIn(netns, context.home);
  const present = linksOf(conn);
  const near = findLink(context.overlay, port.overlayVeth);
  const known = targetOf(present, port, near);
  if (known && near && near.group !== REMOVAL_GROUP) {
    conn.run(finishing(known, port));
    context.overlay.run(openedAgain(near.index, port, context));
    return known.name;
  }
  // Half of a pair: what it was made for is over.
  if (near) context.overlay.run([delLink({ index: near.index })]);
  const isFree = present.every(({ name }) => name !== target.name);
  const name = (isFree && target.name) || freeTargetName(present.map(link => link.name));
  const made = create(port, { name, mac: port.targetMac, netns: netns.fd }, context);
  conn.run(bringUp(made.peer, target.address));
  context.overlay.run(opened(made.index, port));
  return name;
}

/** The last step: the overlay's end comes up, and gets the entry by which a reconcile knows a port that is whole. */
export const opened = (index: number, { targetMac }: WantedPort): Request[] => [
  setLink({ index }, { up: true }),
  setStatic(index, targetMac),
];

/** The same of one that may have lost its bridge meanwhile. */
export const openedAgain = (index: number, port: WantedPort, { at }: PlugContext): Request[] => [
  setLink({ index }, { master: at.gateway }),
  setPort({ index }, false),
  ...opened(index, port),
];

/** Up and addressed. Networks are IPv4: a link-local address would reach the neighbours of one host. */
export const bringUp = (
  index: number,
  address: InterfaceAddress,
  change: { readonly mac?: MacAddress } = {},
): Request[] => [
  setNoLinkLocal(index),
  setLink({ index }, { up: true, ...change }),
  newAddress(index, address),
];

/** What a target's end lacks, bare or not: one for Docker nothing but its MAC. */
export function finishing(
  { index, mac }: Pick<Link, 'index' | 'mac'>,
  { target, targetMac }: WantedPort,
): Request[] {
  const change = mac === targetMac ? {} : { mac: targetMac };
  if (target.kind === 'netns') return bringUp(index, target.address, change);
  return mac === targetMac ? [] : [setLink({ index }, change)];
}

/** Finishes the target's end of a port whose making was interrupted; one that is elsewhere is not ours. */
export function finishEnd(port: WantedPort, context: OverlayContext): void {
  const { target, overlayVeth } = port;
  using netns = target.kind === 'netns' ? Netns.find(target.path) : undefined;
  if (target.kind === 'netns' && !netns) return;
  using inside = netns && connIn(netns, context.home);
  const conn = inside ?? context.host;
  const end = targetOf(linksOf(conn), port, findLink(context.overlay, overlayVeth));
  if (end) conn.run(finishing(end, port));
}

/**
 * The target's end, whatever name it bears by now. The MAC alone is not enough: it follows from the address, and a
 * container may be in two networks with the same addresses, or still hold a predecessor that is on its way out.
 */
export function targetOf(
  links: readonly Link[],
  { targetMac, overlayMac }: BarePort,
  near: Link | undefined,
): Link | undefined {
  // A bare one may have that of the overlay's end.
  const isOurs = ({ mac, kind, group }: Link) =>
    kind === 'veth' && group !== REMOVAL_GROUP && mac !== undefined && [targetMac, overlayMac].includes(mac);
  return near && links.find(link => link.index === near.peer && isOurs(link));
}

/** Answers the overlay's end. */
function create(
  port: WantedPort,
  far: { readonly name: IfName; readonly mac: MacAddress; readonly netns: number },
  { overlay, at: { gateway: master }, mtu }: PlugContext,
): Link {
  const { overlayVeth: name, overlayMac: mac } = port;
  const [link] = overlay
    .run([newVeth({ name, mac }, far, { master, mtu }), setPort({ name }, false), getLink(name)])
    .flatMap(message => parseLink(message) ?? []);
  if (!link) throw new KernelError(`${name} was made and is gone again`, { veth: name });
  return link;
}

/** The target's end goes down and loses its name; a namespace that is gone took it along. */
export function retireInside(
  path: NetnsPath,
  port: BarePort,
  { home, near }: { readonly home: Netns; readonly near: Link },
): void {
  const found = Netns.find(path);
  if (!found) return;
  using netns = found;
  using conn = connIn(netns, home);
  const links = conn.attempt([getLinkAt(near.peer)]).answers.flatMap(message => parseLink(message) ?? []);
  const link = targetOf(links, port, near);
  if (link) conn.attempt(retirement(link, port.overlayVeth));
}

/** A target's interface goes down and bears another name, which no other has: its index is in it. */
export const retirement = ({ index, up }: Link, overlayVeth: IfName): Request[] => [
  // Down first: an interface that is up keeps its name.
  ...(up ? [setLink({ index }, { up: false })] : []),
  setLink(
    { index },
    { rename: `x${index.toString(36)}${overlayVeth.slice(1)}`.slice(0, 15) as IfName, group: REMOVAL_GROUP },
  ),
];
