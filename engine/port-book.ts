/** Which ports this host wants in a network: what the records say, and what is under way. */
import type { EndpointRecord } from '../model/records.js';
import type { EndpointId, IfName, NetworkId } from '../model/scalars.js';
import type { WantedPort } from '../overlay/types.js';
import type { Journal } from './journal.js';
import type { Mirror } from './mirror.js';
import { portOf } from './wanted.js';

export class PortBook {
  readonly #mirror: Mirror;
  readonly #journal: Journal;
  /** Being joined: wanted before their record says so. */
  readonly #joining = new Map<NetworkId, Map<EndpointId, WantedPort>>();
  /** Being torn down: not wanted any more, whatever their record says, and not yet gone from the kernel. */
  readonly #leaving = new Map<EndpointId, IfName | undefined>();

  constructor(mirror: Mirror, journal: Journal) {
    this.#mirror = mirror;
    this.#journal = journal;
  }

  join(id: NetworkId, port: WantedPort): void {
    const joining = this.#joining.get(id) ?? new Map<EndpointId, WantedPort>();
    this.#joining.set(id, joining.set(port.endpointId, port));
    this.#leaving.delete(port.endpointId);
  }

  /** The port's record says what `join` was told, or the join was given up. */
  joined(id: NetworkId, endpoint: EndpointId): void {
    const joining = this.#joining.get(id);
    joining?.delete(endpoint);
    if (joining?.size === 0) this.#joining.delete(id);
  }

  isJoining(id: NetworkId, endpoint: EndpointId): boolean {
    return this.#joining.get(id)?.has(endpoint) === true;
  }

  leave(endpoint: EndpointId, overlayVeth?: IfName): void {
    this.#leaving.set(endpoint, overlayVeth ?? this.#leaving.get(endpoint));
  }

  isLeaving(endpoint: EndpointId): boolean {
    return this.#leaving.has(endpoint);
  }

  /** The endpoint's interface and record are gone. */
  left(endpoint: EndpointId): void {
    this.#leaving.delete(endpoint);
  }

  wanted(id: NetworkId): WantedPort[] {
    const ports = new Map<EndpointId, WantedPort>();
    for (const record of this.#mirror.eachLocalEndpoint(id)) {
      if (this.#isWanted(record)) ports.set(record.id, portOf(record));
    }
    for (const [endpoint, port] of this.#joining.get(id) ?? []) {
      if (!this.#leaving.has(endpoint)) ports.set(endpoint, port);
    }
    return [...ports.values()];
  }

  /** Whether `wanted` has any; asked with every endpoint that comes. */
  wantsAny(id: NetworkId): boolean {
    for (const endpoint of this.#joining.get(id)?.keys() ?? []) if (!this.#leaving.has(endpoint)) return true;
    for (const record of this.#mirror.eachLocalEndpoint(id)) if (this.#isWanted(record)) return true;
    return false;
  }

  #isWanted({ id, active }: EndpointRecord): boolean {
    return active && !this.#leaving.has(id) && !this.#journal.removesEndpoint(id);
  }

  /** Interfaces whose removal is under way: a reconcile meanwhile leaves them to it. */
  leavingInterfaces(): IfName[] {
    return [...this.#leaving.values()].flatMap(name => name ?? []);
  }
}
