/** Found against wanted: what differs, in words, and the requests that mend it. Pure. */
import type { EndpointId, IfName, MacAddress } from '../model/scalars.js';
import { staticKey } from './entry-diff.js';
import { type FoundAddress, newAddress } from './netlink/address.js';
import type { Request } from './netlink/conn.js';
import { REMOVAL_GROUP } from './netlink/constants.js';
import { type Link, type LinkChange, setLink, setLocal, setNoLearning, setPort } from './netlink/link.js';
import { setStatic } from './netlink/neighbour.js';
import { BRIDGE, LOOPBACK_INDEX, type OverlayIndexes, VXLAN } from './network.js';
import type { Repair, WantedNetwork, WantedPort } from './types.js';

/** What one dump of an overlay namespace tells. */
export interface Found {
  readonly links: readonly Link[];
  readonly addresses: readonly FoundAddress[];
  /** Static entries of bridge ports, by `staticKey`. */
  readonly statics: ReadonlySet<string>;
  /** The bridge's, where it is known from before. */
  readonly bridgeMac?: MacAddress | undefined;
}

export interface Differences {
  readonly repairs: Repair[];
  readonly requests: Request[];
  readonly missingPorts: EndpointId[];
  /** Ports without their static entry, which is the last step of making one: their target's end may be bare. */
  readonly unfinished: WantedPort[];
  /** Ports of the bridge that bear a name of ours and that no endpoint wants. */
  readonly strangers: IfName[];
  /** What somebody else has put there: told, and left alone. */
  readonly foreign: string[];
  /** Something was retired and not removed: whoever did that is no more. */
  readonly retired: boolean;
}

/** How every agent names the overlay's end of an endpoint: `sand` and hexadecimal digits. */
const OURS = /^sand[0-9a-f]+$/;

/** Why bridge or VXLAN have to be made anew; undefined where they can be kept. */
export function baseFaults(
  links: readonly Link[],
  wanted: WantedNetwork,
): { readonly bridge: Repair | undefined; readonly vxlan: Repair | undefined } {
  const [bridge, vxlan] = [linkNamed(links, BRIDGE), linkNamed(links, VXLAN)];
  const notBridge = bridge
    ? `${BRIDGE}: a ${bridge.kind || 'device'}, wanted a bridge`
    : `${BRIDGE}: missing`;
  return {
    bridge: bridge?.kind === 'bridge' ? undefined : notBridge,
    vxlan: vxlan ? vxlanMismatch(vxlan, wanted) : `${VXLAN}: missing`,
  };
}

export const linkNamed = (links: readonly Link[], name: string) => links.find(link => link.name === name);

/** Why a VXLAN cannot be kept: these are fixed when it is made. */
export function vxlanMismatch(link: Link, wanted: WantedNetwork): Repair | undefined {
  if (link.kind !== 'vxlan') return `${VXLAN}: a ${link.kind || 'device'}, wanted a VXLAN`;
  if (link.vxlan?.vni !== wanted.vni) return `${VXLAN}: VNI ${link.vxlan?.vni}, wanted ${wanted.vni}`;
  if (link.vxlan.port !== wanted.port) return `${VXLAN}: port ${link.vxlan.port}, wanted ${wanted.port}`;
  if (!link.vxlan.proxy) return `${VXLAN}: answers no ARP`;
  return undefined;
}

/** All but the entries of remote endpoints. */
export function compare(found: Found, wanted: WantedNetwork, at: OverlayIndexes): Differences {
  const retired = found.links.some(({ group }) => group === REMOVAL_GROUP);
  const differences: Differences = {
    repairs: [],
    requests: [],
    missingPorts: [],
    unfinished: [],
    strangers: [],
    foreign: [],
    retired,
  };
  compareBase(found, wanted, at, differences);
  comparePorts(found, wanted, at, differences);
  return differences;
}

function mend({ repairs, requests }: Differences, repair: Repair, ...by: Request[]): void {
  repairs.push(repair);
  requests.push(...by);
}

function compareLink(link: Link, wish: LinkChange & { readonly master?: number }, to: Differences): void {
  const change: Record<string, unknown> = {};
  const words: string[] = [];
  if (wish.up && !link.up) {
    change['up'] = true;
    words.push('down, wanted up');
  }
  if (wish.mtu !== undefined && link.mtu !== wish.mtu) {
    change['mtu'] = wish.mtu;
    words.push(`mtu ${link.mtu}, wanted ${wish.mtu}`);
  }
  if (wish.master !== undefined && link.master !== wish.master) {
    change['master'] = wish.master;
    words.push(`no port of ${BRIDGE}`);
  }
  if (words.length > 0) mend(to, `${link.name}: ${words.join('; ')}`, setLink({ index: link.index }, change));
}

function compareFlags(link: Link, unicastFlood: boolean, to: Differences): void {
  const { port } = link;
  const words: string[] = [];
  if (port?.learning !== false) words.push('learning on, wanted off');
  if (port?.unicastFlood !== unicastFlood) words.push(`flood wanted ${unicastFlood ? 'on' : 'off'}`);
  if (words.length === 0) return;
  mend(to, `${link.name}: ${words.join('; ')}`, setPort({ index: link.index }, unicastFlood));
}

function compareBase(found: Found, wanted: WantedNetwork, at: OverlayIndexes, to: Differences): void {
  const { links, addresses } = found;
  const loopback = links.find(({ index }) => index === LOOPBACK_INDEX);
  if (loopback && !loopback.up) {
    mend(to, 'lo: down, wanted up', setLink({ index: LOOPBACK_INDEX }, { up: true }));
  }
  const bridge = linkNamed(links, BRIDGE);
  if (bridge) compareLink(bridge, { up: true, mtu: wanted.mtu }, to);
  const mac = found.bridgeMac;
  if (bridge && mac && bridge.mac !== mac)
    mend(to, `${BRIDGE}: MAC ${bridge.mac}, was ${mac}`, setLink({ index: at.bridge }, { mac }));
  const carried = addresses.some(({ index, address }) => index === at.bridge && address === wanted.gateway);
  if (!carried)
    mend(to, `${BRIDGE}: address ${wanted.gateway} missing`, newAddress(at.bridge, wanted.gateway));
  const vxlan = linkNamed(links, VXLAN);
  if (!vxlan?.vxlan) return;
  compareLink(vxlan, { up: true, mtu: wanted.mtu, master: at.bridge }, to);
  compareFlags(vxlan, true, to);
  if (vxlan.vxlan.learning) mend(to, `${VXLAN}: learning`, setNoLearning(at.vxlan, wanted.vni));
  if (vxlan.vxlan.local !== wanted.local) {
    const was = vxlan.vxlan.local ?? 'none';
    mend(
      to,
      `${VXLAN}: local address ${was}, wanted ${wanted.local}`,
      setLocal(at.vxlan, wanted.vni, wanted.local),
    );
  }
}

function comparePorts(found: Found, wanted: WantedNetwork, at: OverlayIndexes, to: Differences): void {
  const names = new Set<string>(wanted.leaving);
  for (const port of wanted.ports) {
    const { overlayVeth, targetMac, endpointId } = port;
    names.add(overlayVeth);
    const link = linkNamed(found.links, overlayVeth);
    if (link?.kind !== 'veth') {
      to.missingPorts.push(endpointId);
      continue;
    }
    compareLink(link, { up: true, mtu: wanted.mtu, master: at.bridge }, to);
    compareFlags(link, false, to);
    if (!found.statics.has(staticKey(link.index, targetMac))) {
      mend(to, `${overlayVeth}: entry of ${targetMac} missing`, setStatic(link.index, targetMac));
      to.unfinished.push(port);
    }
  }
  for (const { kind, master, name, index } of found.links) {
    if (master !== at.bridge || names.has(name) || index === at.vxlan) continue;
    if (kind === 'veth' && OURS.test(name)) to.strangers.push(name);
    else to.foreign.push(`${name}: a ${kind || 'device'} in ${BRIDGE} that is none of ours`);
  }
}
