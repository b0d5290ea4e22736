/** A bridge with the VXLAN and a veth pair for each endpoint as its ports. */
import { compareBridgePorts } from './bridge-ports.js';
import { baseFaults, linkNamed } from './diff.js';
import { finishEnd, linksOf } from './endpoint.js';
import type { Ensured, Layout, OverlayContext } from './layout.js';
import { setPort } from './netlink/bridge.js';
import type { Conn } from './netlink/conn.js';
import { delLink, type Link } from './netlink/link.js';
import {
  BRIDGE,
  createBridge,
  createVxlan,
  deleteVxlan,
  freeIndex,
  GATEWAY,
  GATEWAY_INDEX,
  VXLAN,
  VXLAN_INDEX,
} from './network.js';
import { namesOfTargets, plugAll, retireOverlays, retirePairs } from './ports.js';
import type { Repair, WantedNetwork } from './types.js';

export const bridgeLayout: Layout = {
  gateway: BRIDGE,
  gatewayKind: 'bridge',
  portsElsewhere: false,
  masterOfVxlan: at => at.gateway,
  create: async (context, wanted) => {
    createBridge(context.overlay, wanted);
    await createPort(context, wanted, { index: VXLAN_INDEX, master: GATEWAY_INDEX });
    return { gateway: GATEWAY_INDEX, vxlan: VXLAN_INDEX };
  },
  ensure,
  findElsewhere: () => [],
  listPorts: ({ overlay }) => portsOf(overlay).map(({ name }) => name),
  namesOfTargets,
  comparePorts: compareBridgePorts,
  finish: finishEnd,
  retireStrangers: async (strangers, { overlay }) =>
    retireOverlays(
      overlay,
      strangers.map(({ name }) => name),
    ),
  plugAll,
  retireAll: (ports, context) => {
    retirePairs(ports, context);
    return ['here'];
  },
};

async function ensure(context: OverlayContext, wanted: WantedNetwork): Promise<Ensured> {
  const { overlay } = context;
  const repairs: Repair[] = [];
  const links = linksOf(overlay);
  const faults = faultsOf(links, wanted);
  const found = linkNamed(links, BRIDGE);
  let gateway = found?.index ?? 0;
  if (faults.gateway !== undefined) {
    if (found) overlay.run([delLink({ index: found.index })]);
    gateway = freeIndex(links, GATEWAY_INDEX);
    createBridge(overlay, wanted, gateway);
    repairs.push(faults.gateway);
  }
  const present = linkNamed(links, VXLAN);
  if (present && faults.vxlan === undefined) {
    const at = { gateway, vxlan: present.index };
    return repairs.length === 0 ? { at, repairs, links } : { at, repairs };
  }
  if (present) await deleteVxlan(overlay);
  const vxlan = freeIndex(links, VXLAN_INDEX, gateway);
  await createPort(context, wanted, { index: vxlan, master: gateway });
  repairs.push(faults.vxlan ?? '');
  return { at: { gateway, vxlan }, repairs };
}

/** A VXLAN with macvlans on it becomes no port. */
function faultsOf(links: readonly Link[], wanted: WantedNetwork) {
  const faults = baseFaults(links, wanted, bridgeLayout);
  const isOther = linkNamed(links, GATEWAY)?.kind === 'macvlan';
  return isOther ? { ...faults, vxlan: `${VXLAN}: with macvlans, wanted a port of ${BRIDGE}` } : faults;
}

async function createPort(
  { host, overlay, netns }: OverlayContext,
  wanted: WantedNetwork,
  at: { readonly index: number; readonly master: number },
): Promise<void> {
  await createVxlan(host, netns, wanted, at);
  overlay.run([setPort({ index: at.index }, true)]);
}

function portsOf(overlay: Conn): Link[] {
  const links = linksOf(overlay);
  const bridge = linkNamed(links, BRIDGE)?.index;
  return links.filter(({ kind, master }) => kind === 'veth' && master === bridge);
}
