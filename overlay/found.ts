/** What is found of a network in the kernel, and how that differs from what is wanted. */
import type { EndpointId, IfName, MacAddress } from '../model/scalars.js';
import type { FoundAddress } from './netlink/address.js';
import type { Request } from './netlink/conn.js';
import type { Link } from './netlink/link.js';
import type { Repair, WantedPort } from './types.js';

/** A namespace where interfaces are on their way out: its number in the overlay's, or the overlay's own. */
export type RetiredPlace = number | 'here';

/** The interface of an endpoint on the VXLAN itself, in another namespace. */
export interface Macvlan extends Link {
  /** Number of that namespace in the overlay's. */
  readonly nsid: number;
}

/** What one dump of an overlay namespace tells, and where its layout looks beside. */
export interface Found {
  readonly links: readonly Link[];
  readonly addresses: readonly FoundAddress[];
  /** Static entries of bridge ports, by `staticKey`. */
  readonly statics: ReadonlySet<string>;
  /** Interfaces of endpoints on the VXLAN. */
  readonly macvlans: readonly Macvlan[];
  /** The gateway's, where it is known from before. */
  readonly bridgeMac?: MacAddress | undefined;
}

export interface Differences {
  readonly repairs: Repair[];
  readonly requests: Request[];
  /** The last steps of making ports, for when these are finished. */
  readonly marks: Request[];
  readonly missingPorts: EndpointId[];
  /** Ports without what the last step of making one leaves: the target's end may be bare. */
  readonly unfinished: WantedPort[];
  /** Ports that bear a name of ours and that no endpoint wants. */
  readonly strangers: Stranger[];
  /** What somebody else has put there: told, and left alone. */
  readonly foreign: string[];
  /** Where something was retired and not removed: whoever did that is no more. */
  readonly retired: Set<RetiredPlace>;
}

export interface Stranger {
  readonly name: IfName;
  readonly link: Link;
}
