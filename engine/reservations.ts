/**
 * Addresses that this host holds without an endpoint: Docker asks for one before it makes the endpoint, and returns
 * it in a call of its own afterwards; aux addresses are set aside for as long as a Docker network lists them.
 */
import { randomUUID } from 'node:crypto';
import type { Addresses } from '../ipam/addresses.js';
import { addressTaken, type OwnerCheck, type Step } from '../ipam/changes.js';
import { parseRange, withPrefix } from '../ipam/range.js';
import { ConflictError } from '../model/errors.js';
import type { Network } from '../model/records.js';
import type { HostName, InterfaceAddress, IpAddress, NetworkId } from '../model/scalars.js';
import type { Journal } from './journal.js';
import type { Mirror } from './mirror.js';

export interface ReservationsDependencies {
  readonly addresses: Addresses;
  readonly mirror: Mirror;
  readonly journal: Journal;
  readonly host: HostName;
}

export class Reservations {
  readonly #deps: ReservationsDependencies;

  constructor(deps: ReservationsDependencies) {
    this.#deps = deps;
  }

  /**
   * Reserves an address for an endpoint that this host is about to make.
   * @throws ConflictError: taken. ExhaustedError. InvalidError: outside the range.
   */
  async reserve(network: Network, address: IpAddress | 'lowest'): Promise<InterfaceAddress> {
    const { id, ip_range } = network.record;
    const got = await this.#commit(id, { kind: 'take', address, owner: { kind: 'reservation' } });
    return withPrefix(parseRange(ip_range), got);
  }

  /** Returns a reservation of this host that no endpoint bears; anything else stays as it is. */
  async release(networkId: NetworkId, address: IpAddress): Promise<void> {
    const { journal, host } = this.#deps;
    const from: OwnerCheck = owner => {
      const ours = owner?.kind === 'reservation' && owner.hostname === host;
      const aux = owner?.kind === 'aux' && !this.#isAux(networkId, address);
      return ours || aux ? undefined : addressTaken(address, networkId, owner);
    };
    await journal.orKeep({ kind: 'address', network_id: networkId, address }, () =>
      this.#commit(networkId, { kind: 'free', address, from }),
    );
  }

  /** Addresses that Docker's user set aside stay taken as long as a binding lists them. */
  async keepAux(network: Network, aux: readonly IpAddress[]): Promise<void> {
    const { id } = network.record;
    const from = ownReservation(this.#deps.host, id);
    for (const address of aux) {
      await this.#commit(id, { kind: 'pass', address, from, owner: { kind: 'aux' } }).catch(error => {
        // The same one is set aside on every host: the first took it for the network.
        if (!(error instanceof ConflictError && error.facts['owner'] === 'aux')) throw error;
      });
    }
  }

  #isAux(networkId: NetworkId, address: IpAddress): boolean {
    return this.#deps.mirror.bindings(networkId).some(({ aux_addresses }) => aux_addresses.includes(address));
  }

  #commit(networkId: NetworkId, step: Step): Promise<IpAddress> {
    const op = randomUUID();
    return this.#deps.addresses.commit({ networkId, op, step, endpoints: 0, writes: () => [] });
  }
}

/** Passes for what `host` has reserved. */
export const ownReservation =
  (host: HostName, networkId: NetworkId): OwnerCheck =>
  (owner, address) => {
    if (owner?.kind === 'reservation' && owner.hostname === host) return undefined;
    if (owner) return addressTaken(address, networkId, owner);
    return new ConflictError(
      `Address ${address} of network ${networkId} is not reserved by this host; request it first`,
      { network_id: networkId, address },
    );
  };
