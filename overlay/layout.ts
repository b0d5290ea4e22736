/**
 * How a network is laid out on this host, behind one seam. Two ways: `bridge-layout.ts` hangs the VXLAN and a veth pair
 * for each endpoint on a bridge; `macvlan-layout.ts` puts the endpoints' interfaces on the VXLAN itself, and finds them by
 * the numbers that the overlay's namespace has for those where they are. Whatever is not here is the same for both.
 */
import type { IfName } from '../model/scalars.js';
import type { Differences, Found, Macvlan, RetiredPlace } from './found.js';
import type { Conn } from './netlink/conn.js';
import type { Link } from './netlink/link.js';
import type { Netns } from './netns.js';
import type { OverlayIndexes } from './network.js';
import type { BarePort, PlugResult, Repair, WantedNetwork, WantedPort } from './types.js';

/** Where the host is, and a socket there. */
export interface HostContext {
  readonly home: Netns;
  readonly host: Conn;
}

/** The same, with an overlay's namespace and a socket there. */
export interface OverlayContext extends HostContext {
  readonly netns: Netns;
  readonly overlay: Conn;
}

/** Where ports are made. */
export interface PlugContext extends OverlayContext {
  readonly at: OverlayIndexes;
  readonly mtu: number;
}

/** Gateway and VXLAN, as they are now. */
export interface Ensured {
  readonly at: OverlayIndexes;
  readonly repairs: Repair[];
  /** What the overlay's namespace was found to have, where nothing of it was changed. */
  readonly links?: readonly Link[];
}

export interface Layout {
  /** Carries the gateway's address, and is of this kind. */
  readonly gateway: IfName;
  readonly gatewayKind: 'bridge' | 'macvlan';
  /** Index of the device whose port the VXLAN is; 0: none. */
  masterOfVxlan(at: OverlayIndexes): number;
  /** Makes gateway and VXLAN in a namespace that has neither. */
  create(context: OverlayContext, wanted: WantedNetwork): Promise<OverlayIndexes>;
  /** Keeps what fits of both, and makes what lacks. */
  ensure(context: OverlayContext, wanted: WantedNetwork): Promise<Ensured>;
  /** Interfaces of endpoints that a dump of the overlay's namespace does not show. */
  findElsewhere(context: OverlayContext, ports: readonly WantedPort[], vxlan: number): Macvlan[];
  /** Whether the overlay's namespace tells nothing of ports that go. */
  readonly portsElsewhere: boolean;
  /** Names of the ports that are there, with an endpoint or without. */
  listPorts(context: OverlayContext): IfName[];
  /** What the interfaces of ports are called where they are, in the order of `ports`; undefined: there is none. */
  namesOfTargets(ports: readonly WantedPort[], context: OverlayContext): (IfName | undefined)[];
  /** Pure. */
  comparePorts(found: Found, wanted: WantedNetwork, at: OverlayIndexes, to: Differences): void;
  /** Carries a port's making to its end, which was interrupted; one that is not in its place is not ours to finish. */
  finish(port: WantedPort, context: PlugContext): void;
  /** Takes ports of no endpoint out of use. */
  retireStrangers(strangers: Differences['strangers'], context: OverlayContext): Promise<void>;
  /** Makes each port's interface, or keeps the one that is there and whole; one port's failure is not another's. */
  plugAll(ports: readonly WantedPort[], context: PlugContext): PlugResult[];
  /** At once: each target's interface is down and bears another name. Answers where interfaces wait for their slow deletion. */
  retireAll(ports: readonly BarePort[], context: OverlayContext): RetiredPlace[];
}
