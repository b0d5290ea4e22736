/**
 * Addresses that this host holds without an endpoint: Docker asks for one before it makes the endpoint, and returns
 * it in a call of its own afterwards; aux addresses are set aside for as long as a Docker network lists them.
 */
import { randomUUID } from 'node:crypto';
import type { Addresses } from '../ipam/addresses.js';
import { addressTaken, type OwnerCheck, type Step } from '../ipam/changes.js';
import { Pool } from '../ipam/pool.js';
import { parseRange, withPrefix } from '../ipam/range.js';
import { ConflictError, UnavailableError } from '../model/errors.js';
import { AddressOwner, type AddressSource, type Network, PoolRecord } from '../model/records.js';
import {
  type HostName,
  type InterfaceAddress,
  type IpAddress,
  type NetworkId,
  parseIpAddress,
} from '../model/scalars.js';
import type { StoreClient } from '../store/client.js';
import type { Keys } from '../store/keys.js';
import { findRecord, parseRecord } from '../store/table.js';
import { readKey, readPrefix } from '../store/transaction.js';
import type { Journal } from './journal.js';
import type { Mirror } from './mirror.js';

export interface ReservationsDependencies {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly addresses: Addresses;
  readonly mirror: Mirror;
  readonly journal: Journal;
  readonly host: HostName;
  /** Removes Docker's endpoint that has borne the address since before `atMs`. */
  bearerForgotten(networkId: NetworkId, address: IpAddress, atMs: number): Promise<void>;
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
    const op = randomUUID();
    try {
      const got = await this.#commit(id, { kind: 'take', address, owner: { kind: 'reservation' } }, op);
      return withPrefix(parseRange(ip_range), got);
    } catch (error) {
      // It may have been carried out all the same, and nobody would ever return it.
      if (error instanceof UnavailableError)
        this.#deps.journal.add({ kind: 'reservation', network_id: id, op });
      throw error;
    }
  }

  /** Returns what a change reserved whose answer never came. */
  async takeBack(networkId: NetworkId, op: string): Promise<void> {
    const { store, keys } = this.#deps;
    for (const entry of await readPrefix(store, keys.addressOwners(networkId))) {
      if (findRecord(AddressOwner, entry)?.op !== op) continue;
      await this.release(networkId, parseIpAddress(entry.key.slice(entry.key.lastIndexOf('/') + 1)));
    }
  }

  /** Returns a reservation of this host that no endpoint bears; anything else stays as it is. */
  async release(networkId: NetworkId, address: IpAddress): Promise<void> {
    const from = this.#releasable(networkId, address);
    await this.#deps.journal.orKeep({ kind: 'address', network_id: networkId, address }, () =>
      this.#commit(networkId, { kind: 'free', address, from }),
    );
  }

  #releasable(networkId: NetworkId, address: IpAddress): OwnerCheck {
    return owner => {
      const ours = owner?.kind === 'reservation' && owner.hostname === this.#deps.host;
      const aux = owner?.kind === 'aux' && !this.#isAux(networkId, address);
      return ours || aux ? undefined : addressTaken(address, networkId, owner);
    };
  }

  /**
   * Docker returns an address. One that it has from an agent of the original has no owner: the original knows none.
   * It becomes a reservation of this host first, so that a repeated try finds it or finds it gone. An endpoint that
   * bears it still was made or deleted by a call that was never answered.
   */
  async returned(networkId: NetworkId, address: IpAddress, atMs = Date.now()): Promise<void> {
    const { journal, mirror } = this.#deps;
    const kept = { kind: 'address', network_id: networkId, address, by_docker: true, at: atMs } as const;
    // Without a first snapshot nobody can say who bears it.
    if (mirror.revision === 0) return journal.add(kept);
    await this.#deps.bearerForgotten(networkId, address, atMs);
    await journal.orKeep(kept, async () => {
      let unowned = false;
      const ours = this.#releasable(networkId, address);
      const from: OwnerCheck = owner => {
        unowned = owner === undefined;
        return ours(owner, address);
      };
      await this.#commit(networkId, { kind: 'free', address, from });
      if (!unowned || this.#deps.mirror.bearerOf(networkId, address)) return;
      await this.#claim(networkId, address);
      await this.#commit(networkId, { kind: 'free', address, from: ours });
    });
  }

  /**
   * What an address is that Docker has on a network of the original, and that was never asked of us: the original gave
   * it, and has set its bit, or Docker's own IPAM did.
   */
  async adopt(networkId: NetworkId, address: IpAddress): Promise<AddressSource> {
    const { store, keys, mirror } = this.#deps;
    const entry = await readKey(store, keys.pool(networkId));
    const pool = entry && Pool.fromRecord(parseRecord(PoolRecord, entry));
    if (!pool?.isTaken(address) || mirror.bearerOf(networkId, address)) return 'docker-ipam';
    await this.#claim(networkId, address);
    return 'sand-ipam';
  }

  /** An address without an owner becomes a reservation of this host. */
  async #claim(networkId: NetworkId, address: IpAddress): Promise<void> {
    const from: OwnerCheck = found => found && addressTaken(address, networkId, found);
    await this.#commit(networkId, { kind: 'pass', address, from, owner: { kind: 'reservation' } });
  }

  /** Addresses that Docker's user set aside stay taken as long as a binding lists them. */
  async keepAux(network: Network, aux: readonly IpAddress[]): Promise<void> {
    for (const address of aux) await this.#keepAux(network.record.id, address);
  }

  /** Reserved before by our own IPAM calls, or not at all; or taken for the network by the first of its hosts. */
  async #keepAux(id: NetworkId, address: IpAddress): Promise<void> {
    const owner = { kind: 'aux' } as const;
    try {
      await this.#commit(id, { kind: 'take', address, owner });
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
      if (error.facts['owner'] === 'aux') return;
      const from = ownReservation(this.#deps.host, id);
      await this.#commit(id, { kind: 'pass', address, from, owner });
    }
  }

  #isAux(networkId: NetworkId, address: IpAddress): boolean {
    return this.#deps.mirror.bindings(networkId).some(({ aux_addresses }) => aux_addresses.includes(address));
  }

  #commit(networkId: NetworkId, step: Step, op: string = randomUUID()): Promise<IpAddress> {
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
      { network_id: networkId, address, reserved: false },
    );
  };
