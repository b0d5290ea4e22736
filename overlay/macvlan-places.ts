/** Where macvlans of an overlay are: namespaces by the numbers that the overlay's has for them. */
import { KernelError } from '../model/errors.js';
import type { Macvlan } from './found.js';
import type { OverlayContext } from './layout.js';
import type { Conn } from './netlink/conn.js';
import { EINVAL } from './netlink/constants.js';
import { parseLink } from './netlink/link.js';
import { getMacvlansIn } from './netlink/macvlan.js';
import { getNsid, getNsids, newNsid, parseNsid } from './netlink/nsid.js';
import type { Netns } from './netns.js';

/** A VXLAN: its index, and the number that its namespace has for itself. */
export interface Trunk {
  readonly vxlan: number;
  readonly own: number;
}

/** Number of a namespace that has one. */
export function nsidOf(conn: Conn, netns: Netns): number {
  const [nsid] = conn.run([getNsid(netns.fd)]).flatMap(message => parseNsid(message) ?? []);
  if (nsid === undefined)
    throw new KernelError(`Namespace ${netns.path} has no number`, { path: netns.path });
  return nsid;
}

/** Gives it one where it has none. */
export function ensureNsid(conn: Conn, netns: Netns): number {
  conn.run([newNsid(netns.fd)]);
  return nsidOf(conn, netns);
}

export const ownNsid = ({ overlay, netns }: OverlayContext) => ensureNsid(overlay, netns);

export const nsidsIn = (conn: Conn): number[] =>
  conn.dump(getNsids).flatMap(message => parseNsid(message) ?? []);

/** Those on the VXLAN in the namespace with that number; none when it ended a moment ago. */
export function macvlansIn(conn: Conn, nsid: number, { vxlan, own }: Trunk): Macvlan[] {
  try {
    const links = conn.dump(getMacvlansIn(nsid)).flatMap(message => parseLink(message) ?? []);
    return links
      .filter(({ peer, peerNsid }) => peer === vxlan && peerNsid === own)
      .map(link => ({ ...link, nsid }));
  } catch (error) {
    if (error instanceof KernelError && error.facts['errno'] === EINVAL) return [];
    throw error;
  }
}
