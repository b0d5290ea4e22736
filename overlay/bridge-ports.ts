/** Ports of a bridge, found against wanted. Pure. */
import { compareLink, linkNamed, mend, OURS } from './diff.js';
import { staticKey } from './entry-diff.js';
import type { Differences, Found } from './found.js';
import { setNoSnooping, setPort } from './netlink/bridge.js';
import { REMOVAL_GROUP } from './netlink/constants.js';
import type { Link } from './netlink/link.js';
import { setStatic } from './netlink/neighbour.js';
import { BRIDGE, type OverlayIndexes, VXLAN } from './network.js';
import type { WantedNetwork } from './types.js';

export function compareBridgePorts(
  found: Found,
  wanted: WantedNetwork,
  at: OverlayIndexes,
  to: Differences,
): void {
  const bridge = linkNamed(found.links, BRIDGE);
  if (bridge?.snooping) mend(to, `${BRIDGE}: multicast snooping on, wanted off`, setNoSnooping(bridge.index));
  const vxlan = linkNamed(found.links, VXLAN);
  if (vxlan?.vxlan) compareFlags(vxlan, true, to);
  const leaving = new Set<string>(wanted.leaving);
  const names = new Set<string>(wanted.leaving);
  const links = new Map(found.links.map(link => [link.name, link]));
  for (const port of wanted.ports) {
    const { overlayVeth, targetMac, endpointId } = port;
    names.add(overlayVeth);
    // Bare, and its record stands since a moment: whoever finishes it is waiting for this.
    if (leaving.has(overlayVeth)) continue;
    const link = links.get(overlayVeth);
    // Out of use by an agent that was killed before the endpoint went, too: it is about to be deleted.
    if (link?.kind !== 'veth' || link.group === REMOVAL_GROUP) {
      to.missingPorts.push(endpointId);
      continue;
    }
    compareLink(link, { up: true, mtu: wanted.mtu, master: at.gateway, masterName: BRIDGE }, to);
    compareFlags(link, false, to);
    if (!found.statics.has(staticKey(link.index, targetMac))) {
      to.repairs.push(`${overlayVeth}: entry of ${targetMac} missing`);
      to.marks.push(setStatic(link.index, targetMac));
      to.unfinished.push(port);
    }
  }
  for (const link of found.links) {
    const { kind, master, name, index } = link;
    if (master !== at.gateway || names.has(name) || index === at.vxlan) continue;
    if (kind === 'veth' && OURS.test(name)) to.strangers.push({ name, link });
    else to.foreign.push(`${name}: a ${kind || 'device'} in ${BRIDGE} that is none of ours`);
  }
}

function compareFlags(link: Link, unicastFlood: boolean, to: Differences): void {
  const { port } = link;
  const words: string[] = [];
  if (port?.learning !== false) words.push('learning on, wanted off');
  if (port?.unicastFlood !== unicastFlood) words.push(`flood wanted ${unicastFlood ? 'on' : 'off'}`);
  if (words.length === 0) return;
  mend(to, `${link.name}: ${words.join('; ')}`, setPort({ index: link.index }, unicastFlood));
}
