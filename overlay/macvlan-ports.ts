/** Macvlans on a VXLAN, found against wanted. Pure. */
import type { IfName } from '../model/scalars.js';
import { linkNamed, OURS } from './diff.js';
import type { Differences, Found, Macvlan } from './found.js';
import { REMOVAL_GROUP } from './netlink/constants.js';
import { VXLAN } from './network.js';
import type { WantedNetwork, WantedPort } from './types.js';

/**
 * An endpoint's interface: others rename interfaces, and move them. By its MAC, which no two on one VXLAN have while they
 * are up; by its alias where somebody has given it another.
 */
export function bearerOf(
  macvlans: readonly Macvlan[],
  { targetMac, overlayVeth }: Pick<WantedPort, 'targetMac' | 'overlayVeth'>,
): Macvlan | undefined {
  const living = macvlans.filter(({ group }) => group !== REMOVAL_GROUP);
  return living.find(({ mac }) => mac === targetMac) ?? living.find(({ alias }) => alias === overlayVeth);
}

export function compareMacvlans({ links, macvlans }: Found, wanted: WantedNetwork, to: Differences): void {
  const mtu = linkNamed(links, VXLAN)?.mtu;
  const fallen = mtu !== undefined && mtu < wanted.mtu ? mtu : undefined;
  const ours = new Set<Macvlan>();
  for (const port of wanted.ports) {
    const bearer = bearerOf(macvlans, port);
    if (!bearer) {
      to.missingPorts.push(port.endpointId);
      continue;
    }
    ours.add(bearer);
    const fault = faultOf(bearer, port, fallen);
    if (fault === undefined) continue;
    to.repairs.push(`${port.overlayVeth}: ${fault}`);
    to.unfinished.push(port);
  }
  const leaving = new Set<string>(wanted.leaving);
  for (const link of macvlans) {
    if (ours.has(link) || link.group === REMOVAL_GROUP || leaving.has(link.alias)) continue;
    if (OURS.test(link.alias)) to.strangers.push({ name: link.alias as IfName, link });
    else to.foreign.push(`${link.name}: a macvlan on ${VXLAN} that is none of ours`);
  }
}

/** `fallen`: the MTU of a VXLAN that somebody has lowered, which lowers all on it. A smaller one is its container's own. */
function faultOf(
  bearer: Macvlan,
  { overlayVeth }: WantedPort,
  fallen: number | undefined,
): string | undefined {
  if (bearer.alias !== overlayVeth) return 'not finished, or without its alias';
  return bearer.mtu === fallen ? `mtu ${fallen}, with that of ${VXLAN}` : undefined;
}
