/** The veth pair of one endpoint whose target is a namespace that somebody names: any container, any process. */
import type { IfName, MacAddress, NetnsPath } from '../model/scalars.js';
import { newAddress } from './netlink/address.js';
import type { Conn, Request } from './netlink/conn.js';
import { REMOVAL_GROUP } from './netlink/constants.js';
import {
  delLink,
  getLink,
  getLinks,
  type Link,
  newVeth,
  parseLink,
  setLink,
  setPort,
} from './netlink/link.js';
import { setStatic } from './netlink/neighbour.js';
import { connIn, Netns } from './netns.js';
import type { PortTarget, WantedPort } from './types.js';

const TARGET_PREFIX = 'sand'; // sand0, sand1, … in the target, as every agent names them

export const linksOf = (conn: Conn): Link[] =>
  conn.dump(getLinks).flatMap(message => parseLink(message) ?? []);

export const findLink = (conn: Conn, name: IfName): Link | undefined =>
  conn.run([getLink(name)]).flatMap(message => parseLink(message) ?? [])[0];

/** Where ports are made: sockets in the host's and the overlay's namespace. */
export interface PlugContext {
  readonly home: Netns;
  readonly host: Conn;
  readonly overlay: Conn;
  /** Index of the bridge. */
  readonly bridge: number;
  readonly mtu: number;
}

type InsideTarget = Extract<PortTarget, { kind: 'netns' }>;

/**
 * Puts the target's end straight into its namespace, addressed and up. A pair that is there is kept: its end is found
 * by MAC, since others rename interfaces.
 */
export function plugInside(port: WantedPort, target: InsideTarget, context: PlugContext): IfName {
  using netns = Netns.open(target.path);
  using conn = connIn(netns, context.home);
  const present = linksOf(conn);
  const known = present.find(({ mac, kind }) => mac === port.targetMac && kind === 'veth');
  const near = findLink(context.overlay, port.overlayVeth);
  const whole = known && near && near.peer === known.index;
  const name = known?.name ?? freeTargetName(present);
  if (!whole) {
    // Half of a pair: what it was made for is over.
    if (near) context.overlay.run([delLink({ index: near.index })]);
    if (known) conn.run([delLink({ index: known.index })]);
    create(port, { name, mac: port.targetMac, netns: netns.fd }, context);
  }
  const [link] = conn
    .run([setLink({ name }, { up: true }), getLink(name)])
    .flatMap(message => parseLink(message) ?? []);
  if (link) conn.run([newAddress(link.index, target.address)]);
  return name;
}

export function freeTargetName(links: readonly Link[]): IfName {
  const names = new Set<string>(links.map(({ name }) => name));
  for (let n = 0; ; n++) if (!names.has(`${TARGET_PREFIX}${n}`)) return `${TARGET_PREFIX}${n}` as IfName;
}

function create(
  port: WantedPort,
  far: { readonly name: IfName; readonly mac: MacAddress; readonly netns: number },
  { overlay, bridge: master, mtu }: PlugContext,
): void {
  const { overlayVeth: name } = port;
  const [link] = overlay
    .run([newVeth({ name }, far, { master, mtu }), setPort({ name }, false), getLink(name)])
    .flatMap(message => parseLink(message) ?? []);
  if (link) overlay.run([setStatic(link.index, port.targetMac)]);
}

/** The target's interface goes down and loses its name; a namespace that is gone took it along. */
export function retireInside(
  path: NetnsPath,
  port: { readonly targetMac: MacAddress; readonly overlayVeth: IfName },
  home: Netns,
): void {
  const found = Netns.find(path);
  if (!found) return;
  using netns = found;
  using conn = connIn(netns, home);
  const link = linksOf(conn).find(({ mac, kind }) => mac === port.targetMac && kind === 'veth');
  if (link) conn.attempt(retirement(link, retiredName('x', port.overlayVeth)));
}

/** Another letter in front: the endpoint's own name is free at once. */
export const retiredName = (letter: string, name: IfName) => `${letter}${name.slice(1)}` as IfName;

/** Down first: an interface that is up keeps its name. */
export const retirement = ({ index, master }: Link, rename: IfName): Request[] => [
  setLink({ index }, { up: false }),
  setLink({ index }, { rename, group: REMOVAL_GROUP, ...(master === 0 ? {} : { master: 0 }) }),
];
