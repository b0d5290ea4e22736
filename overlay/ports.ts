/**
 * Many ports at once: what comes and goes in one network shares its messages to the kernel, so that a hundred
 * containers cost a hundred times the kernel's own work and no more.
 */
import { ConflictError, KernelError, SandError } from '../model/errors.js';
import type { IfName } from '../model/scalars.js';
import {
  bringUp,
  findLink,
  finishing,
  opened,
  openedAgain,
  plugInside,
  retireInside,
  retirement,
  targetOf,
} from './endpoint.js';
import type { OverlayContext, PlugContext } from './layout.js';
import { setPort } from './netlink/bridge.js';
import type { Message } from './netlink/codec.js';
import type { Conn, Request } from './netlink/conn.js';
import { REMOVAL_GROUP } from './netlink/constants.js';
import { delLink, getLink, getLinkAt, type Link, newVeth, parseLink, setLink } from './netlink/link.js';
import { connIn, Netns } from './netns.js';
import type { BarePort, PlugResult, WantedPort } from './types.js';

/** A port whose pair is to be new, with its target's namespace held open. */
interface Attempt {
  readonly port: WantedPort;
  /** Undefined: the host's own, or none that could be opened. */
  readonly netns: Netns | undefined;
  /** Empty when the pair is to be made alone, with a look at what there is. */
  readonly requests: readonly Request[];
}

/** Makes each port's pair, or keeps the one that is there and whole; one port's failure is not another's. */
export function plugAll(ports: readonly WantedPort[], context: PlugContext): PlugResult[] {
  const attempts = ports.map(port => attemptOf(port, context));
  try {
    const { answers, failures } = context.overlay.attempt(attempts.flatMap(({ requests }) => requests));
    const made = byName(answers);
    const last: Request[] = [];
    const results = attempts.map((attempt): PlugResult => {
      const { port, requests } = attempt;
      const link = made.get(port.overlayVeth);
      if (!link || requests.some(request => failures.has(request))) return plugAlone(port, context);
      last.push(...opened(link.index, port));
      return finish(attempt, link, context);
    });
    context.overlay.run(last);
    return results;
  } finally {
    for (const { netns } of attempts) netns?.[Symbol.dispose]();
  }
}

function attemptOf(port: WantedPort, context: PlugContext): Attempt {
  const { target } = port;
  const netns = target.kind === 'netns' && target.name !== undefined ? Netns.find(target.path) : undefined;
  return { port, netns, requests: newPair(port, netns, context) };
}

/** Both ends down, the overlay's a port of the bridge. Empty: the target cannot be opened, or its end has no name yet. */
export function newPair(
  { target, overlayVeth: name, overlayMac, targetMac: mac }: BarePort,
  netns: Netns | undefined,
  { home, at: { gateway: master }, mtu }: PlugContext,
): Request[] {
  const place = target.kind === 'host' ? home : netns;
  if (!place || target.name === undefined) return [];
  const far = { name: target.name, mac, netns: place.fd };
  return [newVeth({ name, mac: overlayMac }, far, { master, mtu }), setPort({ name }, false), getLink(name)];
}

/** The target's end of a new pair: Docker's part, or addressed and up. */
function finish(
  { port: { target }, netns }: Attempt,
  { peer: index }: Link,
  { home }: PlugContext,
): PlugResult {
  if (target.kind === 'host') return { ifName: target.name };
  return orError(() => {
    if (!netns || target.name === undefined) throw new KernelError(`Namespace ${target.path} is gone`);
    using conn = connIn(netns, home);
    conn.run(bringUp(index, target.address));
    return target.name;
  });
}

export const byName = (answers: readonly Message[]) => {
  const links = answers.flatMap(message => parseLink(message) ?? []);
  return new Map(links.map(link => [link.name, link] as const));
};

/** The way for everything that is not a new pair under a name that is free. */
const plugAlone = (port: WantedPort, context: PlugContext): PlugResult =>
  orError(() =>
    port.target.kind === 'netns'
      ? plugInside(port, port.target, context)
      : keep(port, port.target.name, context),
  );

export function orError(work: () => IfName): PlugResult {
  try {
    return { ifName: work() };
  } catch (thrown) {
    const error = thrown instanceof SandError ? thrown : new KernelError(String(thrown), { cause: thrown });
    return { error };
  }
}

/** A pair that could not be made because there is one. @throws ConflictError when its other end is elsewhere. */
function keep(port: WantedPort, name: IfName, context: PlugContext): IfName {
  const near = findLink(context.overlay, port.overlayVeth);
  if (near?.group === REMOVAL_GROUP) {
    // The endpoint's own predecessor, on its way out: rare enough to wait for the kernel.
    context.overlay.run([delLink({ index: near.index })]);
    const [again] = plugAll([port], context);
    if (again && 'ifName' in again) return again.ifName;
  }
  const far = targetOf([findLink(context.host, name) ?? []].flat(), port, near);
  if (near && far) {
    context.host.run(finishing(far, port));
    context.overlay.run(openedAgain(near.index, port, context));
    return name;
  }
  if (near) {
    throw new ConflictError(`Endpoint ${port.endpointId} has its interface in a container already`, {
      endpoint_id: port.endpointId,
    });
  }
  throw new KernelError(
    `Interface ${name} of endpoint ${port.endpointId} cannot be made; is the name taken on this host?`,
    {
      endpoint_id: port.endpointId,
    },
  );
}

/**
 * Of ports whose interface Docker has put back into the host's namespace, or not yet taken from there: down, and with
 * another name. Answers which these were.
 */
export function retireInHost(ports: readonly BarePort[], host: Conn): Set<BarePort> {
  const named = ports.filter(({ target }) => target.kind === 'host');
  const nameOf = ({ target }: BarePort) => target.name as IfName;
  const links = linksNamed(host, named.map(nameOf));
  const linkOf = (port: BarePort) => {
    const link = links.get(nameOf(port));
    const isOurs = link?.mac === port.targetMac || link?.mac === port.overlayMac;
    return isOurs && (link?.kind === 'veth' || link?.kind === 'macvlan') ? link : undefined;
  };
  host.attempt(
    named.flatMap(port => {
      const link = linkOf(port);
      return link ? retirement(link, port.overlayVeth) : [];
    }),
  );
  return new Set(named.filter(linkOf));
}

/**
 * At once: each overlay end is down and no port, each target's interface is down and bears another name. In this order:
 * without its overlay's end a compare knows a port for gone, whichever step was an agent's last. The pairs themselves go
 * when the removal group is reaped: the kernel takes 16 to 30 ms for it.
 */
export function retirePairs(ports: readonly BarePort[], { home, host, overlay }: OverlayContext): void {
  const near = linksNamed(
    overlay,
    ports.map(({ overlayVeth }) => overlayVeth),
  );
  retire(overlay, near.values());
  retireInHost(ports, host);
  for (const port of ports) {
    const { target, overlayVeth } = port;
    const link = near.get(overlayVeth);
    // Without its overlay's end a pair is gone.
    if (link && target.kind === 'netns') retireInside(target.path, port, { home, near: link });
  }
}

/** What the targets' interfaces are called, wherever they are; undefined: there is none. */
export function namesOfTargets(
  ports: readonly WantedPort[],
  { overlay }: OverlayContext,
): (IfName | undefined)[] {
  const near = linksNamed(
    overlay,
    ports.map(({ overlayVeth }) => overlayVeth),
  );
  const asked = [...near.values()].flatMap(({ peer, peerNsid }) =>
    peerNsid === undefined ? [] : [getLinkAt(peer, peerNsid)],
  );
  const far = overlay.attempt(asked).answers.flatMap(message => parseLink(message) ?? []);
  const byPeer = new Map(far.map(link => [link.peer, link] as const));
  return ports.map(({ overlayVeth, targetMac }) => {
    const link = byPeer.get(near.get(overlayVeth)?.index ?? 0);
    return link?.mac === targetMac && link.group !== REMOVAL_GROUP ? link.name : undefined;
  });
}

/** The same as `retirePairs` for ends in the overlay namespace alone, whatever their other ends are. */
export const retireOverlays = (overlay: Conn, names: readonly IfName[]): void =>
  retire(overlay, linksNamed(overlay, names).values());

function retire(overlay: Conn, links: Iterable<Link>): void {
  overlay.attempt(
    [...links].flatMap(({ kind, index }) =>
      kind === 'veth' ? [setLink({ index }, { up: false, master: 0, group: REMOVAL_GROUP })] : [],
    ),
  );
}

const linksNamed = (conn: Conn, names: readonly IfName[]) => byName(conn.attempt(names.map(getLink)).answers);
