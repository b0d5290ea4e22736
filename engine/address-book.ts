/** Which endpoint of a network bears an address. Of two that do, as foreign hands or the original make them, the older. */
import type { Peer } from '../model/records.js';
import type { EndpointId, IpAddress } from '../model/scalars.js';

export interface AddressMove {
  readonly from: IpAddress | undefined;
  readonly to: IpAddress | undefined;
  /** etcd's revision at which the endpoint's record was made; 0: as it was told before. */
  readonly created: number;
}

export class AddressBook {
  readonly #bearers = new Map<IpAddress, EndpointId>();
  /** Younger bearers, where there are any. */
  readonly #rivals = new Map<IpAddress, Set<EndpointId>>();
  readonly #created = new Map<EndpointId, number>();

  bearerOf(address: IpAddress): EndpointId | undefined {
    return this.#bearers.get(address);
  }

  /** Without those whose address an older one bears. */
  rightful(peers: ReadonlyMap<EndpointId, Peer>): Iterable<Peer> {
    if (this.#rivals.size === 0) return peers.values();
    return [...peers.values()].filter(peer => this.#bearers.get(peer.address) === peer.endpointId);
  }

  /** Tells whether the change is about an address that more than one endpoint bears, or bore. */
  move(id: EndpointId, { from, to, created }: AddressMove): boolean {
    if (created > 0) this.#created.set(id, created);
    const left = from !== undefined && from !== to && this.#leave(from, id);
    const met = to !== undefined && this.#bear(to, id);
    if (to === undefined) this.#created.delete(id);
    return left || met;
  }

  #bear(address: IpAddress, id: EndpointId): boolean {
    const bearer = this.#bearers.get(address) ?? id;
    const rivals = this.#rivals.get(address);
    if (bearer === id && !rivals) {
      this.#bearers.set(address, id);
      return false;
    }
    this.#settle(address, new Set([bearer, id, ...(rivals ?? [])]));
    return true;
  }

  #leave(address: IpAddress, id: EndpointId): boolean {
    const rivals = this.#rivals.get(address);
    if (!rivals) {
      this.#bearers.delete(address);
      return false;
    }
    const left = new Set([this.#bearers.get(address) ?? id, ...rivals]);
    left.delete(id);
    this.#settle(address, left);
    return true;
  }

  #settle(address: IpAddress, all: ReadonlySet<EndpointId>): void {
    const age = (id: EndpointId) => this.#created.get(id) ?? 0;
    const [oldest, ...younger] = [...all].sort((a, b) => age(a) - age(b) || (a < b ? -1 : 1));
    if (oldest) this.#bearers.set(address, oldest);
    if (younger.length > 0) this.#rivals.set(address, new Set(younger));
    else this.#rivals.delete(address);
  }
}
