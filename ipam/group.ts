/**
 * Decides a group of address changes against what is known of the pool: one transaction, or what has to be read
 * first. Pure: `addresses.ts` sends it.
 */
import {
  ConflictError,
  ExhaustedError,
  InvalidError,
  NotFoundError,
  type SandError,
} from '../model/errors.js';
import type { AddressOwner } from '../model/records.js';
import type { HostName, IpAddress, NetworkId } from '../model/scalars.js';
import type { Keys } from '../store/keys.js';
import type { Condition, Write } from '../store/transaction.js';
import { type AddressChange, addressTaken, type NewOwner } from './changes.js';
import type { Pool } from './pool.js';
import { contains, numberOf } from './range.js';

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
  readonly owners: ReadonlyMap<IpAddress, KnownOwner>;
}

export interface GroupContext {
  readonly networkId: NetworkId;
  readonly host: HostName;
  readonly keys: Keys;
  /** How many addresses to take ahead of need when the pool is written anyway. */
  readonly ahead: number;
  readonly nowMs: number;
  /** True when an endpoint's record bears the address, whatever its bit says. */
  borne(address: IpAddress): boolean;
}

export interface Plan {
  readonly settled: ReadonlyMap<AddressChange, IpAddress>;
  readonly refused: ReadonlyMap<AddressChange, SandError>;
  /** Must wait: they touch an address that an earlier change of the group touches. */
  readonly deferred: readonly AddressChange[];
  readonly conditions: readonly Condition[];
  readonly writes: readonly Write[];
  /** The view after the commit, but for revisions. */
  readonly pool: Pool;
  readonly poolWritten: boolean;
  readonly spares: ReadonlyMap<HostName, readonly IpAddress[]>;
  readonly owners: ReadonlyMap<IpAddress, AddressOwner | undefined>;
}

/** Owner keys that must be read before the group can be decided. */
export const unknownOwners = (view: PoolView, changes: readonly AddressChange[]): IpAddress[] =>
  changes.flatMap(({ step }) =>
    step.kind !== 'take' && !view.owners.has(step.address) ? [step.address] : [],
  );

export function planGroup(view: PoolView, changes: readonly AddressChange[], context: GroupContext): Plan {
  return new Planner(view, context).plan(changes);
}

class Planner {
  readonly #pool: Pool;
  readonly #spares = new Map<HostName, readonly IpAddress[]>();
  readonly #owners = new Map<IpAddress, AddressOwner | undefined>();
  readonly #settled = new Map<AddressChange, IpAddress>();
  readonly #refused = new Map<AddressChange, SandError>();
  readonly #writes: Write[] = [];
  #poolWritten = false;

  constructor(
    readonly view: PoolView,
    readonly context: GroupContext,
  ) {
    this.#pool = view.pool.copy();
  }

  plan(changes: readonly AddressChange[]): Plan {
    const deferred: AddressChange[] = [];
    for (const change of changes) {
      const { address } = change.step;
      if (address !== 'lowest' && this.#owners.has(address)) deferred.push(change);
      else this.#decide(change);
    }
    if (this.#poolWritten) this.#takeAhead();
    return {
      settled: this.#settled,
      refused: this.#refused,
      deferred,
      conditions: this.#conditions(),
      writes: [...this.#writes, ...this.#bookkeeping()],
      pool: this.#pool,
      poolWritten: this.#poolWritten,
      spares: this.#spares,
      owners: this.#owners,
    };
  }

  #decide(change: AddressChange): void {
    const { step } = change;
    if (step.kind === 'take') {
      const got = step.address === 'lowest' ? this.#lowest() : this.#given(step.address);
      if (typeof got !== 'string') this.#refused.set(change, got);
      else this.#settle(change, got, this.#ownerFor(change, step.owner));
      return;
    }
    const found = this.view.owners.get(step.address)?.owner;
    const objection = step.from(found, step.address);
    if (step.kind === 'pass') {
      if (objection) this.#refused.set(change, objection);
      else this.#settle(change, step.address, this.#ownerFor(change, step.owner));
      return;
    }
    if (!objection) this.#giveBack(step.address);
    this.#settle(change, step.address, objection ? found : undefined);
  }

  #ownerFor(change: AddressChange, owner: NewOwner): AddressOwner {
    return { ...owner, hostname: this.context.host, op: change.op, at: this.context.nowMs };
  }

  #settle(change: AddressChange, address: IpAddress, owner: AddressOwner | undefined): void {
    const key = this.context.keys.addressOwner(this.context.networkId, address);
    const before = this.view.owners.get(address)?.owner;
    if (owner !== before) this.#writes.push(owner ? { put: key, value: owner } : { delete: key });
    this.#owners.set(address, owner);
    this.#writes.push(...change.writes(address));
    this.#settled.set(change, address);
  }

  /** From our own spares, else the pool, else another host's spares. */
  #lowest(): IpAddress | SandError {
    const [spare, ...rest] = this.#spareOf(this.context.host);
    if (spare !== undefined) {
      this.#spares.set(this.context.host, rest);
      return spare;
    }
    const free = this.#lowestInPool();
    if (free !== undefined) return free;
    for (const host of this.view.spares.keys()) {
      const [theirs, ...left] = this.#spareOf(host);
      if (theirs === undefined) continue;
      this.#spares.set(host, left);
      return theirs;
    }
    const { networkId } = this.context;
    return new ExhaustedError(
      `Network ${networkId} has no free address left in ${this.#pool.range.cidr}; remove endpoints or use a larger range`,
      { network_id: networkId, ip_range: this.#pool.range.cidr },
    );
  }

  #lowestInPool(): IpAddress | undefined {
    const free = this.#pool.lowestFree(address => {
      if (this.#owners.has(address)) return true;
      const held = this.view.owners.get(address)?.owner !== undefined || this.context.borne(address);
      // Somebody cleared the bit of an address in use: it is set again in the same transaction.
      if (held) this.#pool.take(address);
      return held;
    });
    if (free !== undefined) {
      this.#pool.take(free);
      this.#poolWritten = true;
    }
    return free;
  }

  #given(address: IpAddress): IpAddress | SandError {
    const { networkId, host } = this.context;
    if (!contains(this.#pool.range, address) || !this.#pool.isUsable(address)) {
      return new InvalidError(
        `address ${address} is not a host address of ${this.#pool.range.cidr}, the range of network ${networkId}`,
        { field: 'address', network_id: networkId },
      );
    }
    const owner = this.view.owners.get(address)?.owner;
    if (owner || this.context.borne(address)) return addressTaken(address, networkId, owner);
    for (const holder of [host, ...this.view.spares.keys()]) {
      const spares = this.#spareOf(holder);
      if (!spares.includes(address)) continue;
      this.#spares.set(holder, without(spares, address));
      return address;
    }
    if (this.#pool.isTaken(address)) return addressTaken(address, networkId);
    if (this.#pool.covers(address)) {
      this.#pool.take(address);
      this.#poolWritten = true;
    }
    return address;
  }

  /** While the pool is contended a freed address stays with this host for its next caller. */
  #giveBack(address: IpAddress): void {
    if (!this.#pool.covers(address)) return;
    const spares = this.#spareOf(this.context.host);
    if (this.context.ahead > 0 && spares.length < this.context.ahead) {
      this.#spares.set(this.context.host, [...spares, address].sort(byNumber(this.#pool)));
      return;
    }
    this.#pool.free(address);
    this.#poolWritten = true;
  }

  #takeAhead(): void {
    const { host, ahead } = this.context;
    // A sixteenth at most: many hosts may do the same to a small pool.
    const room = Math.min(ahead, Math.floor(this.#pool.freeCount / 16));
    const spares = [...this.#spareOf(host)];
    while (spares.length < room) {
      const address = this.#lowestInPool();
      if (address === undefined) break;
      spares.push(address);
    }
    if (spares.length > this.#spareOf(host).length) this.#spares.set(host, spares);
  }

  #spareOf(host: HostName): readonly IpAddress[] {
    return this.#spares.get(host) ?? this.view.spares.get(host)?.addresses ?? [];
  }

  #conditions(): Condition[] {
    const { keys, networkId } = this.context;
    const conditions: Condition[] = [];
    if (this.#poolWritten) {
      conditions.push({ unchanged: keys.pool(networkId), revision: this.view.poolRevision });
    }
    for (const host of this.#spares.keys()) {
      const revision = this.view.spares.get(host)?.revision ?? 0;
      conditions.push({ unchanged: keys.addressSpare(networkId, host), revision });
    }
    for (const address of this.#owners.keys()) {
      const revision = this.view.owners.get(address)?.revision ?? 0;
      conditions.push({ unchanged: keys.addressOwner(networkId, address), revision });
    }
    return conditions;
  }

  #bookkeeping(): Write[] {
    const { keys, networkId } = this.context;
    const writes: Write[] = [];
    if (this.#poolWritten) writes.push({ put: keys.pool(networkId), value: this.#pool.toRecord() });
    for (const [host, addresses] of this.#spares) {
      const key = keys.addressSpare(networkId, host);
      if (addresses.length > 0) writes.push({ put: key, value: { addresses } });
      else if (this.view.spares.has(host)) writes.push({ delete: key });
    }
    return writes;
  }
}

const without = (list: readonly IpAddress[], address: IpAddress) => list.filter(other => other !== address);
const byNumber = (pool: Pool) => (a: IpAddress, b: IpAddress) =>
  numberOf(pool.range, a) - numberOf(pool.range, b);

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
