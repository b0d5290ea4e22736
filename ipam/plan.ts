/** What a group of address changes is decided from, and the decision: values between `pool-writer.ts` and `group.ts`. */
import type { SandError } from '../model/errors.js';
import type { AddressOwner } from '../model/records.js';
import type { HostName, IpAddress, NetworkId } from '../model/scalars.js';
import type { Keys } from '../store/keys.js';
import type { Condition, Write } from '../store/transaction.js';
import type { AddressChange } from './changes.js';
import type { Pool } from './pool.js';

export interface Spare {
  readonly addresses: readonly IpAddress[];
  /** 0: the key does not exist. */
  readonly revision: number;
}
export interface KnownOwner {
  readonly owner: AddressOwner | undefined;
  /** 0: the key does not exist. */
  readonly revision: number;
}

/** What this agent believes of one pool since its last transaction there. */
export interface PoolView {
  readonly pool: Pool;
  readonly poolRevision: number;
  readonly spares: ReadonlyMap<HostName, Spare>;
  /** Goes on from view to view: ten thousand of them would be copied with every transaction. */
  readonly owners: Map<IpAddress, KnownOwner>;
  /** Keys of records that a read has found gone, whatever the mirror still believes. */
  readonly gone: ReadonlySet<string>;
}

/** What to read beside the pool: owners of addresses, and records that are said to bear one. */
export interface Asked {
  readonly addresses: readonly IpAddress[];
  readonly bearers: readonly string[];
}

export interface GroupContext {
  readonly networkId: NetworkId;
  readonly host: HostName;
  readonly keys: Keys;
  /** How many addresses to take ahead of need when the pool is written anyway. */
  readonly ahead: number;
  readonly nowMs: number;
  /** Key of the record that bears the address, whatever its bit says. */
  bearer(address: IpAddress): string | undefined;
}

export interface Plan {
  readonly settled: ReadonlyMap<AddressChange, IpAddress>;
  readonly refused: ReadonlyMap<AddressChange, SandError>;
  /** Must wait: they touch what an earlier change of the group touches, or are too many. */
  readonly deferred: readonly AddressChange[];
  readonly conditions: readonly Condition[];
  readonly writes: readonly Write[];
  /** The view after the commit, but for revisions. */
  readonly pool: Pool;
  readonly poolWritten: boolean;
  readonly spares: ReadonlyMap<HostName, readonly IpAddress[]>;
  readonly owners: ReadonlyMap<IpAddress, AddressOwner | undefined>;
  /** What the plan holds to be in use although the pool does not say so: to be read when the plan fails. */
  readonly doubts: Asked;
}
