/**
 * Each endpoint's interface on the VXLAN itself, made in place in its target's namespace: no end of it is in the overlay's.
 * The kernel numbers, in the overlay's namespace, those where interfaces of it are, and takes a number back when the
 * namespace ends; so they are found again by a new agent too, whatever the records say.
 */
import type { IfName } from '../model/scalars.js';
import { baseFaults, linkNamed } from './diff.js';
import { linksOf } from './endpoint.js';
import type { Macvlan } from './found.js';
import type { Ensured, Layout, OverlayContext } from './layout.js';
import { finishMacvlan, plugMacvlans, retireMacvlans } from './macvlan.js';
import { macvlansIn, nsidOf, nsidsIn, ownNsid } from './macvlan-places.js';
import { bearerOf, compareMacvlans } from './macvlan-ports.js';
import { REMOVAL_GROUP } from './netlink/constants.js';
import { delLink } from './netlink/link.js';
import { newNsid } from './netlink/nsid.js';
import { Netns } from './netns.js';
import {
  BRIDGE,
  createGateway,
  createVxlan,
  deleteVxlan,
  freeIndex,
  GATEWAY,
  GATEWAY_INDEX,
  VXLAN,
  VXLAN_INDEX,
} from './network.js';
import type { Repair, WantedNetwork, WantedPort } from './types.js';

export const macvlanLayout: Layout = {
  gateway: GATEWAY,
  gatewayKind: 'macvlan',
  portsElsewhere: true,
  masterOfVxlan: () => 0,
  create: async ({ host, overlay, netns }, wanted) => {
    const at = { gateway: GATEWAY_INDEX, vxlan: VXLAN_INDEX };
    await createVxlan(host, netns, wanted, { index: at.vxlan, master: 0 });
    createGateway(overlay, wanted, at);
    return at;
  },
  ensure,
  findElsewhere,
  listPorts: context =>
    allElsewhere(context, [])
      .filter(({ group }) => group !== REMOVAL_GROUP)
      .map(({ name, alias }) => (alias || name) as IfName),
  namesOfTargets: (ports, context) => {
    const found = allElsewhere(context, ports);
    return ports.map(port => bearerOf(found, port)?.name);
  },
  comparePorts: (found, wanted, _at, to) => compareMacvlans(found, wanted, to),
  finish: finishMacvlan,
  retireStrangers: async (strangers, { overlay }) => {
    for (const { link } of strangers) {
      const nsid = 'nsid' in link ? (link.nsid as number) : undefined;
      await overlay.runSlowly(delLink({ index: link.index, nsid }));
    }
  },
  plugAll: plugMacvlans,
  retireAll: retireMacvlans,
};

/** A VXLAN that has to be made anew takes along all that is on it. */
async function ensure({ host, overlay, netns }: OverlayContext, wanted: WantedNetwork): Promise<Ensured> {
  const repairs: Repair[] = [];
  const links = linksOf(overlay);
  const bridge = linkNamed(links, BRIDGE);
  if (bridge?.kind === 'bridge') {
    overlay.run([delLink({ index: bridge.index })]);
    repairs.push(`${BRIDGE}: a bridge, wanted none`);
  }
  const faults = baseFaults(links, wanted, macvlanLayout);
  const [present, gateway] = [linkNamed(links, VXLAN), linkNamed(links, GATEWAY)];
  let vxlan = present?.index ?? 0;
  if (faults.vxlan !== undefined) {
    if (present) await deleteVxlan(overlay);
    vxlan = freeIndex(links, VXLAN_INDEX);
    await createVxlan(host, netns, wanted, { index: vxlan, master: 0 });
    repairs.push(faults.vxlan);
  }
  const isOn = gateway?.kind === 'macvlan' && gateway.peer === vxlan;
  if (gateway && isOn && faults.vxlan === undefined) {
    const at = { gateway: gateway.index, vxlan };
    return repairs.length === 0 ? { at, repairs, links } : { at, repairs };
  }
  if (gateway) overlay.run([delLink({ index: gateway.index })]);
  const at = { gateway: freeIndex(links, GATEWAY_INDEX, vxlan), vxlan };
  createGateway(overlay, wanted, at);
  repairs.push(faults.gateway ?? `${GATEWAY}: not on ${VXLAN}`);
  return { at, repairs };
}

/** None without a VXLAN. */
function allElsewhere(context: OverlayContext, ports: readonly WantedPort[]): Macvlan[] {
  const vxlan = linkNamed(linksOf(context.overlay), VXLAN)?.index;
  return vxlan === undefined ? [] : findElsewhere(context, ports, vxlan);
}

/** A namespace without a number is looked into where a port is not found otherwise. */
function findElsewhere(context: OverlayContext, ports: readonly WantedPort[], vxlan: number) {
  const { overlay } = context;
  const on = { vxlan, own: ownNsid(context) };
  const known = nsidsIn(overlay).filter(nsid => nsid !== on.own);
  const found = known.flatMap(nsid => macvlansIn(overlay, nsid, on));
  for (const port of ports) {
    if (bearerOf(found, port)) continue;
    const path = port.target.kind === 'netns' ? port.target.path : port.target.sandbox;
    using netns = path === undefined ? undefined : Netns.find(path);
    if (!netns) continue;
    overlay.run([newNsid(netns.fd)]);
    const nsid = nsidOf(overlay, netns);
    if (known.includes(nsid)) continue;
    known.push(nsid);
    found.push(...macvlansIn(overlay, nsid, on));
  }
  return found;
}
