/**
 * Is every taken address explained, and has every holder its address? Pure, over the truth at one revision. An
 * address whose holder might be named by a value that nobody can read is held to be in use.
 */
import type { AddressOwner, BindingRecord, EndpointRecord } from '../model/records.js';
import { addressOf, type HostName, type IpAddress, type NetworkId } from '../model/scalars.js';
import type { NetworkTruth, Stored } from './truth.js';

/** Chosen: Docker makes an endpoint right after it asked for the address, and returns it right after the endpoint. */
export const GRACE_MS = 10 * 60_000;

export type AddressFault =
  /** The bit is set, and nothing says for whom: an agent of the original forgot it. */
  | 'unexplained'
  /** Held for an endpoint that has no record. */
  | 'no-endpoint'
  | 'old-reservation'
  /** An aux address that no Docker network lists. */
  | 'unlisted-aux'
  | 'spare-of-gone-host'
  /** In use, and its bit is clear. */
  | 'bit-clear'
  | 'address-twice'
  /** The record and the owner key name different endpoints. */
  | 'other-owner';

export interface AddressFinding {
  readonly fault: AddressFault;
  readonly networkId: NetworkId;
  readonly address: IpAddress;
  /** What is so. */
  readonly text: string;
  /** Whose it is, as far as that is known. */
  readonly host: HostName | undefined;
  readonly since: Date | undefined;
  /** The owner as it was found: only that one is taken away. */
  readonly owner: AddressOwner | undefined;
}

const LEAKS: readonly AddressFault[] = ['unexplained', 'no-endpoint', 'old-reservation', 'unlisted-aux'];
/** Taken for nobody: it can be returned. */
export const isLeak = ({ fault }: AddressFinding) => LEAKS.includes(fault) || fault === 'spare-of-gone-host';

/** What surrounds an owner key. */
export interface OwnerContext {
  readonly nowMs: number;
  readonly hasRecord: boolean;
  /** An endpoint's record bears the address. */
  readonly isBorne: boolean;
  readonly isListedAux: boolean;
}

/** Whether what an owner key was made for would have come by now. */
export const isOld = ({ at }: AddressOwner, nowMs: number) => nowMs - at > GRACE_MS;

/** Why an owner key holds its address for nobody; undefined when it holds it rightly. */
export function ownerFault(owner: AddressOwner, context: OwnerContext): AddressFault | undefined {
  const { nowMs, hasRecord, isBorne, isListedAux } = context;
  if (owner.kind === 'endpoint')
    return hasRecord || owner.endpoint_id === undefined ? undefined : 'no-endpoint';
  if (owner.kind === 'aux') return isListedAux || !isOld(owner, nowMs) ? undefined : 'unlisted-aux';
  return isOld(owner, nowMs) && !isBorne ? 'old-reservation' : undefined;
}

export interface AuditContext {
  readonly nowMs: number;
  /** A host that is not known to be gone is living. */
  isGone(host: HostName): boolean;
}

/** Nothing is said of a network without its record or its pool: what is broken there is found elsewhere. */
export function auditAddresses(network: NetworkTruth, context: AuditContext): AddressFinding[] {
  const { record, pool } = network;
  if (!record || !pool) return [];
  return new Audit(network, context).findings();
}

class Audit {
  readonly #bearers = new Map<IpAddress, Stored<EndpointRecord>[]>();
  readonly #aux: ReadonlySet<IpAddress>;

  constructor(
    readonly network: NetworkTruth,
    readonly context: AuditContext,
  ) {
    for (const endpoint of network.endpoints) {
      const address = addressOf(endpoint.value.target_veth_ip);
      this.#bearers.set(address, [...(this.#bearers.get(address) ?? []), endpoint]);
    }
    const listed = ({ value }: Stored<BindingRecord>) => value.aux_addresses;
    this.#aux = new Set(network.bindings.flatMap(listed));
  }

  findings(): AddressFinding[] {
    return [...this.#ofEndpoints(), ...this.#ofOwners(), ...this.#ofSpares(), ...this.#ofBits()];
  }

  #finding(fault: AddressFault, address: IpAddress, text: string, owner?: AddressOwner): AddressFinding {
    const since = owner && new Date(owner.at);
    return { fault, networkId: this.network.id, address, text, host: owner?.hostname, since, owner };
  }

  *#ofEndpoints(): Iterable<AddressFinding> {
    for (const [address, bearers] of this.#bearers) {
      const [oldest, ...younger] = bearers.sort((a, b) => a.createRevision - b.createRevision);
      if (!oldest) continue;
      const owner = this.network.owners.get(address)?.value;
      if (younger.length > 0) {
        const ids = younger.map(({ value }) => value.id).join(', ');
        const text = `endpoints ${oldest.value.id} and ${ids} bear it; neighbours are told the first, the older`;
        yield this.#finding('address-twice', address, text);
      } else if (owner?.endpoint_id !== undefined && owner.endpoint_id !== oldest.value.id) {
        const text = `endpoint ${oldest.value.id} bears it, its owner key names ${owner.endpoint_id}`;
        yield this.#finding('other-owner', address, text);
      }
      if (this.#isClear(address)) {
        yield this.#finding('bit-clear', address, `endpoint ${oldest.value.id} bears it, the pool says free`);
      }
    }
  }

  *#ofOwners(): Iterable<AddressFinding> {
    const { owners, endpoints, broken } = this.network;
    const records = new Set(endpoints.map(({ value }) => value.id));
    const isUnsure = broken.length > 0;
    for (const [address, { value: owner }] of owners) {
      const isBorne = this.#bearers.has(address);
      const fault = ownerFault(owner, {
        nowMs: this.context.nowMs,
        hasRecord: owner.endpoint_id !== undefined && records.has(owner.endpoint_id),
        isBorne,
        isListedAux: this.#aux.has(address),
      });
      // With a record of another endpoint it is reported as that one's.
      if (fault && !isBorne && !isUnsure) yield this.#finding(fault, address, textOf(fault, owner), owner);
      else if (!isBorne && this.#isClear(address)) {
        yield this.#finding('bit-clear', address, `${holderOf(owner)} holds it, the pool says free`, owner);
      }
    }
  }

  *#ofSpares(): Iterable<AddressFinding> {
    for (const [host, { value: addresses }] of this.network.spares) {
      if (!this.context.isGone(host)) continue;
      for (const address of addresses) {
        const text = `host ${host} took it ahead of need and is gone`;
        yield { ...this.#finding('spare-of-gone-host', address, text), host };
      }
    }
  }

  *#ofBits(): Iterable<AddressFinding> {
    const { pool, record, owners, spares, broken } = this.network;
    if (!pool || !record || broken.length > 0) return;
    const spare = new Set([...spares.values()].flatMap(({ value }) => value));
    const gateway = addressOf(record.value.gateway);
    for (const address of pool.value.takenHosts()) {
      const isExplained =
        address === gateway || this.#bearers.has(address) || owners.has(address) || spare.has(address);
      if (isExplained) continue;
      yield this.#finding('unexplained', address, 'taken in the pool, by nobody that is known');
    }
  }

  #isClear(address: IpAddress): boolean {
    const pool = this.network.pool?.value;
    return pool?.covers(address) === true && !pool.isTaken(address);
  }
}

const holderOf = ({ kind, endpoint_id, hostname }: AddressOwner) =>
  kind === 'endpoint' ? `endpoint ${endpoint_id} of ${hostname}` : `a ${kind} of host ${hostname}`;

function textOf(fault: AddressFault, owner: AddressOwner): string {
  if (fault === 'no-endpoint') return `held for ${holderOf(owner)}, which has no record`;
  if (fault === 'unlisted-aux') return `set aside by host ${owner.hostname}, and no Docker network lists it`;
  return `reserved by host ${owner.hostname}, and no endpoint came for it`;
}
