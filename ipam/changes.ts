/** The three things that can happen to an address, as values; `pool-queue.ts` carries them out in groups. */
import { ConflictError, NotFoundError, type SandError } from '../model/errors.js';
import type { AddressOwner } from '../model/records.js';
import type { IpAddress, NetworkId } from '../model/scalars.js';
import type { Write } from '../store/transaction.js';

/** An owner without what the committer adds. */
export type NewOwner = Pick<AddressOwner, 'kind' | 'endpoint_id'>;

/** Says why an owner is not the expected one, or undefined when it is. */
export type OwnerCheck = (owner: AddressOwner | undefined, address: IpAddress) => SandError | undefined;

export type Step =
  /** A free address, the lowest or a given one, gets an owner. */
  | { readonly kind: 'take'; readonly address: IpAddress | 'lowest'; readonly owner: NewOwner }
  /** A taken address passes from one owner to another. */
  | {
      readonly kind: 'pass';
      readonly address: IpAddress;
      readonly from: OwnerCheck;
      readonly owner: NewOwner;
    }
  /**
   * A taken address becomes free; when the check objects, it stays and only the writes are carried out. One without an
   * owner, as agents of the original leave them, becomes free while its `record`, a key, stands. Without that a first
   * try of the change has freed it, and another host may hold it ahead of need by now.
   */
  | {
      readonly kind: 'free';
      readonly address: IpAddress;
      readonly from: OwnerCheck;
      readonly record?: string;
    };

export type FreeStep = Extract<Step, { readonly kind: 'free' }>;

export interface AddressChange {
  readonly networkId: NetworkId;
  /** Unique: by it a retried transaction recognises its own first try. */
  readonly op: string;
  readonly step: Step;
  /** By how much the change alters the number of this host's endpoints in the network. */
  readonly endpoints: -1 | 0 | 1;
  /** Records that belong to the change, written in the same transaction. At most three. */
  writes(address: IpAddress): readonly Write[];
}

/** The conflict of an address that somebody else holds. */
export function addressTaken(address: IpAddress, networkId: NetworkId, owner?: AddressOwner): ConflictError {
  const holder = owner
    ? `by ${owner.kind === 'endpoint' ? `endpoint ${owner.endpoint_id}` : `a ${owner.kind}`} of host ${owner.hostname}`
    : 'by the network itself or an agent of the original';
  return new ConflictError(`Address ${address} of network ${networkId} is taken ${holder}; choose another`, {
    network_id: networkId,
    address,
    ...(owner ? { holder: owner.hostname, owner: owner.kind } : {}),
  });
}

/** The network's record is gone. */
export const networkGone = (networkId: NetworkId) =>
  new NotFoundError(`Network ${networkId} does not exist; see sand-agent-cli network-list`, {
    network_id: networkId,
  });

/** A network without its pool: half of a record, which no agent writes. */
export const poolGone = (networkId: NetworkId, key: string) =>
  new ConflictError(`Network ${networkId} has no pool at ${key}; restore the key or delete the network`, {
    network_id: networkId,
  });
