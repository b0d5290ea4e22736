/** The veth pair of a local endpoint. */
import { KernelError } from '../model/errors.js';
import type { IfName, MacAddress } from '../model/scalars.js';
import { newAddress } from './netlink/address.js';
import type { Conn } from './netlink/conn.js';
import { EEXIST, REMOVAL_GROUP } from './netlink/constants.js';
import {
  delGroup,
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
import type { WantedPort } from './types.js';

const TARGET_PREFIX = 'sand'; // sand0, sand1, … in the target, as every agent names them

export const linksOf = (conn: Conn): Link[] =>
  conn.dump(getLinks).flatMap(message => parseLink(message) ?? []);

export const findLink = (conn: Conn, name: IfName): Link | undefined =>
  conn.run([getLink(name)]).flatMap(message => parseLink(message) ?? [])[0];

/** A target namespace with its socket, or the host's own. */
interface Place extends Disposable {
  readonly netns: Netns;
  readonly conn: Conn;
}

function placeOf(port: Pick<WantedPort, 'target'>, home: Netns, host: Conn): Place {
  if (port.target.kind === 'host') return { netns: home, conn: host, [Symbol.dispose]: () => undefined };
  const netns = Netns.open(port.target.path);
  const conn = connIn(netns, home);
  return {
    netns,
    conn,
    [Symbol.dispose]: () => {
      conn[Symbol.dispose]();
      netns[Symbol.dispose]();
    },
  };
}

export interface PlugContext {
  readonly home: Netns;
  readonly host: Conn;
  readonly overlay: Conn;
  readonly bridge: number;
  readonly mtu: number;
}

/** Makes the pair, or keeps the one that is there and right. Answers the name of the target's end. */
export function plug(port: WantedPort, context: PlugContext): IfName {
  using place = placeOf(port, context.home, context.host);
  const { target } = port;
  if (target.kind === 'host') {
    create(port, target.name, place, context);
    return target.name;
  }
  const present = linksOf(place.conn);
  const known = present.find(({ mac, kind }) => mac === port.targetMac && kind === 'veth');
  const name = known?.name ?? freeName(present);
  if (!known || !findLink(context.overlay, port.overlayVeth)) create(port, name, place, context);
  place.conn.run([setLink({ name }, { up: true })]);
  const link = findLink(place.conn, name);
  if (link) place.conn.run([newAddress(link.index, target.address)]);
  return name;
}

function freeName(links: readonly Link[]): IfName {
  const names = new Set<string>(links.map(({ name }) => name));
  for (let n = 0; ; n++) if (!names.has(`${TARGET_PREFIX}${n}`)) return `${TARGET_PREFIX}${n}` as IfName;
}

function create(port: WantedPort, name: IfName, place: Place, context: PlugContext): void {
  const { overlay, bridge: master, mtu } = context;
  const near = { name: port.overlayVeth };
  const far = { name, mac: port.targetMac, netns: place.netns.fd };
  const requests = [
    newVeth(near, far, { master, mtu }),
    setPort({ name: port.overlayVeth }, false),
    getLink(port.overlayVeth),
  ];
  let [link] = tryCreate();
  if (!link) {
    if (isWhole(port, name, place, context)) return;
    // Half of a pair, or one with another's end: what it was made for is over.
    overlay.run([delLink({ name: port.overlayVeth })]);
    place.conn.run([delLink({ name })]);
    [link] = overlay.run(requests).flatMap(message => parseLink(message) ?? []);
  }
  if (link) overlay.run([setStatic(link.index, port.targetMac)]);

  function tryCreate(): Link[] {
    try {
      return overlay.run(requests).flatMap(message => parseLink(message) ?? []);
    } catch (error) {
      if (error instanceof KernelError && error.facts['errno'] === EEXIST) return [];
      throw error;
    }
  }
}

/** Both ends exist, and the target's is where it is asked for. */
function isWhole(port: WantedPort, name: IfName, place: Place, { overlay }: PlugContext): boolean {
  const near = findLink(overlay, port.overlayVeth);
  const far = findLink(place.conn, name);
  return (
    near?.kind === 'veth' && far?.kind === 'veth' && far.mac === port.targetMac && near.peer === far.index
  );
}

/**
 * At once: the target's interface is down and bears another name, the overlay's end is down and no port. The pair
 * itself goes with the next `reap`: the kernel takes 16 to 30 ms for it.
 */
export function retire(
  port: Pick<WantedPort, 'overlayVeth' | 'targetMac' | 'target'>,
  home: Netns,
  host: Conn,
  overlay: Conn | undefined,
): void {
  if (port.target.kind === 'host') retireTarget(host, findLink(host, port.target.name), port.overlayVeth);
  else retireInside(port.target.path, port, home);
  if (overlay) retireOverlay(overlay, port.overlayVeth);
}

function retireInside(
  path: string,
  port: { readonly targetMac: MacAddress; readonly overlayVeth: IfName },
  home: Netns,
): void {
  const netns = Netns.find(path as never);
  if (!netns) return;
  using _netns = netns;
  using conn = connIn(netns, home);
  const link = linksOf(conn).find(({ mac, kind }) => mac === port.targetMac && kind === 'veth');
  retireTarget(conn, link, port.overlayVeth);
}

function retireTarget(conn: Conn, link: Link | undefined, overlayVeth: IfName): void {
  if (!link) return;
  const rename = `x${overlayVeth.slice(1)}` as IfName;
  const { index } = link;
  conn.run([setLink({ index }, { up: false }), setLink({ index }, { rename, group: REMOVAL_GROUP })]);
}

export function retireOverlay(conn: Conn, name: IfName): void {
  const link = findLink(conn, name);
  if (link?.kind !== 'veth') return;
  conn.run([setLink({ index: link.index }, { up: false, master: 0, group: REMOVAL_GROUP })]);
}

/** Deletes what was retired in the socket's namespace; the pairs' other ends go with it. */
export const reap = (conn: Conn): Promise<void> => conn.runSlowly(delGroup(REMOVAL_GROUP));
