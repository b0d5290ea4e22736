/** Interfaces of endpoints on the VXLAN: made in place, finished, taken out of use. */
import { ConflictError, KernelError } from '../model/errors.js';
import type { IfName } from '../model/scalars.js';
import { bringUp, findLink, type InsideTarget, linksOf, retirement } from './endpoint.js';
import type { RetiredPlace } from './found.js';
import type { OverlayContext, PlugContext } from './layout.js';
import { ensureNsid, macvlansIn, ownNsid, type Trunk } from './macvlan-places.js';
import { bearerOf } from './macvlan-ports.js';
import type { Request } from './netlink/conn.js';
import { EBUSY } from './netlink/constants.js';
import { setLink } from './netlink/link.js';
import { newMacvlan } from './netlink/macvlan.js';
import { newNsid } from './netlink/nsid.js';
import { connIn, Netns } from './netns.js';
import { VXLAN } from './network.js';
import { orError, retireInHost } from './ports.js';
import { freeTargetName } from './target-name.js';
import type { BarePort, PlugResult, WantedPort } from './types.js';

/** A port whose interface is to be new, with its place held open. */
interface Attempt {
  readonly port: WantedPort;
  /** The target's; undefined: the host's own, or none that could be opened. */
  readonly netns: Netns | undefined;
  /** Empty when it is to be made alone, with a look at what there is. */
  readonly requests: readonly Request[];
}

interface Making extends PlugContext {
  readonly trunk: Trunk;
}

export function plugMacvlans(ports: readonly WantedPort[], context: PlugContext): PlugResult[] {
  const making: Making = { ...context, trunk: { vxlan: context.at.vxlan, own: ownNsid(context) } };
  const attempts = ports.map(port => attemptOf(port, making));
  try {
    const { failures } = context.overlay.attempt(attempts.flatMap(({ requests }) => requests));
    const results = attempts.map(({ port, netns, requests }) =>
      requests.length === 0 || requests.some(request => failures.has(request))
        ? orError(() => plugAlone(port, making))
        : orError(() => finishNew(port, netns, making)),
    );
    context.host.attempt(ports.flatMap((port, i) => (isMade(results[i]) ? markInHost(port) : [])));
    return results;
  } finally {
    for (const { netns } of attempts) netns?.[Symbol.dispose]();
  }
}

const isMade = (result: PlugResult | undefined) => result !== undefined && 'ifName' in result;

/** The last step of making one that Docker is to move. */
const markInHost = ({ target, overlayVeth }: WantedPort): Request[] =>
  target.kind === 'host' ? [setLink({ name: target.name }, { alias: overlayVeth })] : [];

function attemptOf(port: WantedPort, making: Making): Attempt {
  const { target } = port;
  if (target.kind === 'host') {
    const requests = isPlaced(port, making) ? [] : [create(target.name, port, making.home, making)];
    return { port, netns: undefined, requests };
  }
  const netns = target.name === undefined ? undefined : Netns.find(target.path);
  if (!netns || target.name === undefined) return { port, netns, requests: [] };
  return { port, netns, requests: [newNsid(netns.fd), create(target.name, port, netns, making)] };
}

const create = (name: IfName, { targetMac }: WantedPort, netns: Netns, { at, mtu }: Making) =>
  newMacvlan(name, targetMac, { on: at.vxlan, netns: netns.fd, mtu });

/** Whether Docker has it in a container already. By this the container's namespace has its number. */
function isPlaced(port: WantedPort, { overlay, trunk }: Making): boolean {
  if (port.target.kind !== 'host' || port.target.sandbox === undefined) return false;
  using netns = Netns.find(port.target.sandbox);
  return (
    netns !== undefined &&
    bearerOf(macvlansIn(overlay, ensureNsid(overlay, netns), trunk), port) !== undefined
  );
}

function finishNew(port: WantedPort, netns: Netns | undefined, making: Making): IfName {
  const { target } = port;
  if (target.kind === 'host') return target.name;
  if (!netns || target.name === undefined) throw new KernelError(`Namespace ${target.path} is gone`);
  return finishIn(netns, { port, target, name: target.name }, making);
}

interface Unfinished {
  readonly port: WantedPort;
  readonly target: InsideTarget;
  readonly name: IfName;
}

/** Up, addressed, and with its alias, by which a reconcile knows one that is whole. */
function finishIn(
  netns: Netns,
  { port, target, name }: Unfinished,
  { home, mtu }: Pick<Making, 'home' | 'mtu'>,
): IfName {
  using conn = connIn(netns, home);
  const link = findLink(conn, name);
  if (!link) throw new KernelError(`${name} was made and is gone again`, { interface: name });
  const { index } = link;
  try {
    conn.run([
      setLink({ index }, { mtu }),
      ...bringUp(index, target.address),
      setLink({ index }, { alias: port.overlayVeth }),
    ]);
    return name;
  } catch (error) {
    if (!(error instanceof KernelError) || error.facts['errno'] !== EBUSY) throw error;
    conn.attempt(retirement(link, port.overlayVeth));
    throw new ConflictError(
      `MAC ${port.targetMac} of endpoint ${port.endpointId} is borne by another interface of its network on this host; delete that, or choose another`,
      { cause: error, endpoint_id: port.endpointId },
    );
  }
}

/** The way for everything that is not new under a name that is free. */
function plugAlone(port: WantedPort, making: Making): IfName {
  const { target } = port;
  return target.kind === 'netns' ? plugInside(port, target, making) : keepInHost(port, target.name, making);
}

function plugInside(port: WantedPort, target: InsideTarget, making: Making): IfName {
  using netns = Netns.open(target.path);
  const { overlay, home, trunk } = making;
  const known = bearerOf(macvlansIn(overlay, ensureNsid(overlay, netns), trunk), port);
  if (known) return finishIn(netns, { port, target, name: known.name }, making);
  const present = linksIn(netns, home);
  const isFree = present.every(({ name }) => name !== target.name);
  const name = (isFree && target.name) || freeTargetName(present.map(link => link.name));
  overlay.run([create(name, port, netns, making)]);
  return finishIn(netns, { port, target, name }, making);
}

function linksIn(netns: Netns, home: Netns) {
  using conn = connIn(netns, home);
  return linksOf(conn);
}

/** One that could not be made because there is one. @throws ConflictError when that is in a container. */
function keepInHost(port: WantedPort, name: IfName, making: Making): IfName {
  const { overlay, home, trunk } = making;
  const endpoint_id = port.endpointId;
  if (isPlaced(port, making)) {
    throw new ConflictError(`Endpoint ${endpoint_id} has its interface in a container already`, {
      endpoint_id,
    });
  }
  const present = bearerOf(macvlansIn(overlay, ensureNsid(overlay, home), trunk), port);
  if (present?.name === name && present.mac === port.targetMac) return name;
  if (present) {
    throw new ConflictError(
      `Interface ${present.name} of endpoint ${endpoint_id} has the MAC ${present.mac}, not ${port.targetMac}; delete it`,
      { endpoint_id },
    );
  }
  throw new KernelError(
    `Interface ${name} of endpoint ${endpoint_id} cannot be made; is the name taken on this host?`,
    { endpoint_id },
  );
}

export function finishMacvlan(port: WantedPort, context: PlugContext): void {
  const { target } = port;
  if (target.kind === 'host') {
    markWherever(port, context);
    return;
  }
  using netns = Netns.find(target.path);
  if (!netns) return;
  const { overlay } = context;
  const trunk = { vxlan: context.at.vxlan, own: ownNsid(context) };
  const bare = bearerOf(macvlansIn(overlay, ensureNsid(overlay, netns), trunk), port);
  if (bare) finishIn(netns, { port, target, name: bare.name }, context);
}

/** Docker has moved it meanwhile, or not. */
function markWherever(port: WantedPort, context: PlugContext): void {
  const { overlay, home, at, mtu } = context;
  const { target, overlayVeth } = port;
  const trunk = { vxlan: at.vxlan, own: ownNsid(context) };
  using sandbox = target.kind === 'host' && target.sandbox ? Netns.find(target.sandbox) : undefined;
  for (const netns of [home, ...(sandbox ? [sandbox] : [])]) {
    const found = bearerOf(macvlansIn(overlay, ensureNsid(overlay, netns), trunk), port);
    if (!found) continue;
    using conn = connIn(netns, home);
    conn.run([setLink({ index: found.index }, { mtu, alias: overlayVeth })]);
  }
}

export function retireMacvlans(ports: readonly BarePort[], context: OverlayContext): RetiredPlace[] {
  const { overlay, home, host } = context;
  const inHost = retireInHost(ports, host);
  const places = new Set<RetiredPlace>();
  if (inHost.size > 0) places.add(ensureNsid(overlay, home));
  const vxlan = findLink(overlay, VXLAN)?.index;
  if (vxlan === undefined) return [...places];
  const trunk = { vxlan, own: ownNsid(context) };
  for (const port of ports) {
    if (inHost.has(port)) continue;
    const path = port.target.kind === 'netns' ? port.target.path : port.target.sandbox;
    using netns = path === undefined ? undefined : Netns.find(path);
    if (!netns) continue;
    const nsid = ensureNsid(overlay, netns);
    const link = bearerOf(macvlansIn(overlay, nsid, trunk), port);
    // Its successor has the same MAC, when the address was given again.
    if (!link || (link.alias !== '' && link.alias !== port.overlayVeth)) continue;
    using conn = connIn(netns, home);
    conn.attempt(retirement(link, port.overlayVeth));
    places.add(nsid);
  }
  return [...places];
}
