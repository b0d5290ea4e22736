/**
 * Decides a group of address changes against what is known of the pool: one transaction, or what has to be read
 * first. Pure: `pool-writer.ts` sends it.
 */
import { ExhaustedError, InvalidError, type SandError } from '../model/errors.js';
import type { AddressOwner } from '../model/records.js';
import type { HostName, IpAddress } from '../model/scalars.js';
import { type Condition, keyOf, type Write } from '../store/transaction.js';
import { type AddressChange, addressTaken, type FreeStep, type NewOwner } from './changes.js';
import type { Asked, GroupContext, Plan, PoolView } from './plan.js';
import type { Pool } from './pool.js';
import { contains, numberOf, type Range } from './range.js';

// Chosen by us: with the group's own writes they stay under etcd's 128 operations.
const OTHER_SPARES_MAX = 8; // hosts whose spares one transaction takes over
const PROOFS_MAX = 32; // addresses that one transaction proves to be in use

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
  readonly #deferred: AddressChange[] = [];
  /** Addresses that are held to be in use without the pool saying so, with what must hold for it. */
  readonly #proofs = new Map<IpAddress, Condition>();
  readonly #writes: Write[] = [];
  #poolWritten = false;
  /** This host had too many spares: none is taken ahead of need. */
  #sparesReturned = false;

  constructor(
    readonly view: PoolView,
    readonly context: GroupContext,
  ) {
    this.#pool = view.pool.copy();
  }

  plan(changes: readonly AddressChange[]): Plan {
    for (const change of changes) {
      const { address } = change.step;
      if (address !== 'lowest' && this.#owners.has(address)) this.#deferred.push(change);
      else this.#decide(change);
    }
    if (this.#poolWritten && !this.#sparesReturned) this.#takeAhead();
    return {
      settled: this.#settled,
      refused: this.#refused,
      deferred: this.#deferred,
      conditions: this.#conditions(),
      writes: [...this.#writes, ...this.#bookkeeping()],
      pool: this.#pool,
      poolWritten: this.#poolWritten,
      spares: this.#spares,
      owners: this.#owners,
      doubts: this.#doubts(),
    };
  }

  #decide(change: AddressChange): void {
    const { step } = change;
    if (step.kind === 'take') {
      const got = step.address === 'lowest' ? this.#lowest() : this.#given(step.address);
      if (got === undefined) this.#deferred.push(change);
      else if (typeof got !== 'string') this.#refused.set(change, got);
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
    if (!objection && this.#isToReturn(change, step, found)) this.#giveBack(step.address);
    this.#settle(change, step.address, objection ? found : undefined);
  }

  #isToReturn(
    change: AddressChange,
    { address, record }: FreeStep,
    found: AddressOwner | undefined,
  ): boolean {
    if (this.#borneByAnother(change, address)) return false;
    if (found) return true;
    if (record === undefined || this.view.gone.has(record)) return false;
    this.#proofs.set(address, { exists: record });
    return true;
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

  /** From our own spares, else the pool, else another host's spares. Undefined: in the next transaction. */
  #lowest(): IpAddress | SandError | undefined {
    const free = this.#lowestSpare(this.context.host) ?? this.#lowestInPool();
    if (free !== undefined) return free;
    for (const host of this.view.spares.keys()) {
      if (!this.#spares.has(host) && this.#spares.size > OTHER_SPARES_MAX) return undefined;
      const theirs = this.#lowestSpare(host);
      if (theirs !== undefined) return theirs;
    }
    const { networkId } = this.context;
    return new ExhaustedError(
      `Network ${networkId} has no free address left in ${this.#pool.range.cidr}; remove endpoints or use a larger range`,
      { network_id: networkId, ip_range: this.#pool.range.cidr },
    );
  }

  #lowestSpare(host: HostName): IpAddress | undefined {
    const spares = this.#spareOf(host);
    const lowest = spares.find(address => !this.#isOwned(address));
    if (lowest !== undefined) this.#spares.set(host, without(spares, lowest));
    return lowest;
  }

  /** Such as a spare that was given back by somebody who did not have it any more. */
  #isOwned(address: IpAddress): boolean {
    if (this.#owners.has(address)) return this.#owners.get(address) !== undefined;
    return this.view.owners.get(address)?.owner !== undefined;
  }

  #lowestInPool(): IpAddress | undefined {
    const free = this.#pool.lowestFree(address => {
      if (this.#owners.has(address)) return true;
      const proof = this.#proofOfUse(address);
      if (!proof) return false;
      // Somebody cleared the bit of an address in use: it is set again in the same transaction.
      if (this.#proofs.size < PROOFS_MAX) {
        this.#proofs.set(address, proof);
        this.#pool.take(address);
      }
      return true;
    });
    if (free !== undefined) {
      this.#pool.take(free);
      this.#poolWritten = true;
    }
    return free;
  }

  /**
   * What must hold for the address to be in use. The view's owners and the mirror may be older than the pool:
   * without the condition the bit of an address that was given back meanwhile would be set for ever.
   */
  #proofOfUse(address: IpAddress): Condition | undefined {
    const { keys, networkId } = this.context;
    const known = this.view.owners.get(address);
    if (known?.owner) return { unchanged: keys.addressOwner(networkId, address), revision: known.revision };
    const bearer = this.#bearerOf(address);
    return bearer === undefined ? undefined : { exists: bearer };
  }

  #bearerOf(address: IpAddress): string | undefined {
    const bearer = this.context.bearer(address);
    return bearer !== undefined && this.view.gone.has(bearer) ? undefined : bearer;
  }

  /** Agents of the original give an address twice at times: then the bit stays for the other. */
  #borneByAnother(change: AddressChange, address: IpAddress): boolean {
    const bearer = this.#bearerOf(address);
    if (bearer === undefined || change.writes(address).some(write => keyOf(write) === bearer)) return false;
    this.#proofs.set(address, { exists: bearer });
    return true;
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
    if (owner || this.#bearerOf(address) !== undefined) return addressTaken(address, networkId, owner);
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
    const { host, ahead } = this.context;
    const spares = this.#spareOf(host);
    if (spares.length < ahead) {
      this.#spares.set(host, inserted(spares, address, this.#pool.range));
      return;
    }
    this.#pool.free(address);
    this.#poolWritten = true;
    if (ahead > 0) this.#returnHalf(spares);
  }

  /** The upper half at once: otherwise each further group that gives back would write the contended pool. */
  #returnHalf(spares: readonly IpAddress[]): void {
    const returned = spares.slice(Math.ceil(spares.length / 2)).filter(address => !this.#isOwned(address));
    for (const address of returned) this.#pool.free(address);
    this.#spares.set(
      this.context.host,
      spares.filter(address => !returned.includes(address)),
    );
    this.#sparesReturned = true;
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
    conditions.push(...this.#proofs.values());
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

  #doubts(): Asked {
    const bearers = [...this.#proofs.values()].flatMap(proof => ('exists' in proof ? [proof.exists] : []));
    const settled = this.#owners;
    return { bearers, addresses: [...this.#proofs.keys()].filter(address => !settled.has(address)) };
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

/** Before the first that is higher: no sort, since a group gives back many and each has its text read for a number. */
function inserted(list: readonly IpAddress[], address: IpAddress, range: Range): IpAddress[] {
  const number = numberOf(range, address);
  const at = list.findIndex(other => numberOf(range, other) > number);
  return list.toSpliced(at < 0 ? list.length : at, 0, address);
}
