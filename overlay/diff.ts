/** Found against wanted: what differs, in words, and the requests that mend it; of ports, its layout says it. Pure. */
import type { IfName } from '../model/scalars.js';
import type { Differences, Found } from './found.js';
import type { Layout } from './layout.js';
import { newAddress } from './netlink/address.js';
import type { Request } from './netlink/conn.js';
import { REMOVAL_GROUP } from './netlink/constants.js';
import { type Link, type LinkChange, setLink, setLocal, setNoLearning } from './netlink/link.js';
import { LOOPBACK_INDEX, type OverlayIndexes, VXLAN } from './network.js';
import type { Repair, WantedNetwork } from './types.js';

/** How every agent names the overlay's end of an endpoint: `sand` and hexadecimal digits. */
export const OURS = /^sand[0-9a-f]+$/;

/** Why gateway or VXLAN have to be made anew; undefined where they can be kept. */
export function baseFaults(
  links: readonly Link[],
  wanted: WantedNetwork,
  { gateway: name, gatewayKind }: Pick<Layout, 'gateway' | 'gatewayKind'>,
): { readonly gateway: Repair | undefined; readonly vxlan: Repair | undefined } {
  const [gateway, vxlan] = [linkNamed(links, name), linkNamed(links, VXLAN)];
  const unfit = gateway
    ? `${name}: a ${gateway.kind || 'device'}, wanted a ${gatewayKind}`
    : `${name}: missing`;
  return {
    gateway: gateway?.kind === gatewayKind ? undefined : unfit,
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
export function compare(
  found: Found,
  wanted: WantedNetwork,
  at: OverlayIndexes,
  layout: Pick<Layout, 'gateway' | 'masterOfVxlan' | 'comparePorts'>,
): Differences {
  const differences: Differences = {
    repairs: [],
    requests: [],
    marks: [],
    missingPorts: [],
    unfinished: [],
    strangers: [],
    foreign: [],
    retired: new Set(),
  };
  if (found.links.some(({ group }) => group === REMOVAL_GROUP)) differences.retired.add('here');
  for (const { group, nsid } of found.macvlans) if (group === REMOVAL_GROUP) differences.retired.add(nsid);
  compareBase({ found, wanted, at, layout }, differences);
  layout.comparePorts(found, wanted, at, differences);
  return differences;
}

export function mend({ repairs, requests }: Differences, repair: Repair, ...by: Request[]): void {
  repairs.push(repair);
  requests.push(...by);
}

/** `master`: index of the device whose port it is to be, and how that is named; 0: of none. */
export function compareLink(
  link: Link,
  wish: LinkChange & { readonly master?: number; readonly masterName?: IfName },
  to: Differences,
): void {
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
    words.push(wish.master === 0 ? 'a port, wanted none' : `no port of ${wish.masterName}`);
  }
  if (words.length > 0) mend(to, `${link.name}: ${words.join('; ')}`, setLink({ index: link.index }, change));
}

interface Base {
  readonly found: Found;
  readonly wanted: WantedNetwork;
  readonly at: OverlayIndexes;
  readonly layout: Pick<Layout, 'gateway' | 'masterOfVxlan'>;
}

function compareBase({ found, wanted, at, layout }: Base, to: Differences): void {
  const { links, addresses } = found;
  const loopback = links.find(({ index }) => index === LOOPBACK_INDEX);
  if (loopback && !loopback.up) {
    mend(to, 'lo: down, wanted up', setLink({ index: LOOPBACK_INDEX }, { up: true }));
  }
  compareVxlan({ found, wanted, at, layout }, to);
  const { gateway: name } = layout;
  const gateway = linkNamed(links, name);
  if (gateway) compareLink(gateway, { up: true, mtu: wanted.mtu }, to);
  const mac = found.bridgeMac;
  if (gateway && mac && gateway.mac !== mac)
    mend(to, `${name}: MAC ${gateway.mac}, was ${mac}`, setLink({ index: at.gateway }, { mac }));
  const carried = addresses.some(({ index, address }) => index === at.gateway && address === wanted.gateway);
  if (!carried)
    mend(to, `${name}: address ${wanted.gateway} missing`, newAddress(at.gateway, wanted.gateway));
}

/** Before the gateway, which may be on it: its MTU is the most that others can have. */
function compareVxlan({ found, wanted, at, layout }: Base, to: Differences): void {
  const vxlan = linkNamed(found.links, VXLAN);
  if (!vxlan?.vxlan) return;
  const master = layout.masterOfVxlan(at);
  compareLink(vxlan, { up: true, mtu: wanted.mtu, master, masterName: layout.gateway }, to);
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
