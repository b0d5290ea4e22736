/** The objects of the API as a client meets them, and what it may wish for. */
export type { EndpointJson, HostJson, NetworkJson, StatusJson } from '../../api/schemas.js';
export type { DifferenceJson, LeakJson } from '../../api/schemas-upkeep.js';

import type { DifferenceJson } from '../../api/schemas-upkeep.js';

/** What is left open the agent chooses. */
export interface NetworkWish {
  readonly id?: string | undefined;
  readonly name?: string | undefined;
  readonly ip_range?: string | undefined;
  readonly gateway?: string | undefined;
  readonly mtu?: number | undefined;
  /** `bridge` or `macvlan`. */
  readonly dataplane?: string | undefined;
  readonly vxlan_vni?: number | undefined;
}

export interface EndpointWish {
  /** Name or id. */
  readonly network: string;
  /** Path of a network namespace on the agent's host; without it the endpoint is passive: an address and no interface. */
  readonly netns?: string | undefined;
  readonly ipv4_address?: string | undefined;
  readonly mac_address?: string | undefined;
}

export interface EndpointFilter {
  /** Name or id. */
  readonly network?: string | undefined;
  readonly hostname?: string | undefined;
}

/** What a repair did, and what it left for somebody to decide. */
export interface RepairJson {
  readonly done: readonly string[];
  readonly left: readonly DifferenceJson[];
}

/** What a host held that is gone for good. */
export interface GivenAway {
  readonly endpoints: number;
  readonly reservations: number;
  readonly bindings: number;
}
