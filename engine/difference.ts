/** Something that is not as it should be, as `verify` tells it. */
import type { EndpointId, IpAddress, NetworkId } from '../model/scalars.js';
import type { AddressFault } from './address-audit.js';

export type DifferenceKind =
  | AddressFault
  // of the truth
  | 'broken-value'
  | 'no-network'
  | 'no-pool'
  | 'other-pool'
  | 'gateway-outside'
  | 'endpoint-outside'
  | 'shared-vni'
  | 'lonely-claim'
  | 'unequal-pair'
  // of this host's kernel
  | 'unknown-namespace'
  | 'kernel-differs'
  | 'no-port'
  | 'foreign'
  // of the machine, and of our layout
  | 'near-limit';

export interface Difference {
  /** Where: in etcd's records, in the addresses, in this host's kernel, at a limit. */
  readonly area: 'truth' | 'addresses' | 'kernel' | 'limits';
  readonly kind: DifferenceKind;
  /** What is so, with the ids. */
  readonly text: string;
  readonly networkId?: NetworkId | undefined;
  readonly endpointId?: EndpointId | undefined;
  readonly address?: IpAddress | undefined;
  /** etcd key of the object. */
  readonly key?: string | undefined;
}
