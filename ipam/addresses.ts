/**
 * The addresses of a cluster's networks, from this agent's side. Per network one transaction is in flight; callers
 * who arrive meanwhile share the next one (`pool-queue.ts`). What a transaction holds is decided purely (`group.ts`),
 * what it compares and brings back when refused is in `pool-writer.ts`. After a lost race the agent takes some
 * addresses ahead of need into a key of its own, serves callers from there without touching the pool, and gives them
 * back when the rush is over.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { UnavailableError } from '../model/errors.js';
import type { HostName, IpAddress, NetworkId } from '../model/scalars.js';
import type { StoreClient } from '../store/client.js';
import type { Keys } from '../store/keys.js';
import type { AddressChange } from './changes.js';
import { PoolQueue } from './pool-queue.js';
import { type AddressesOptions, PoolWriter } from './pool-writer.js';

const SPARES_ATTEMPTS = 16; // chosen: some 4 s, as long as a lock of an agent of the original may stand in the way

export class Addresses implements AsyncDisposable {
  readonly #store: StoreClient;
  readonly #keys: Keys;
  readonly #options: AddressesOptions;
  readonly #queues = new Map<NetworkId, PoolQueue>();

  constructor(store: StoreClient, keys: Keys, options: AddressesOptions) {
    this.#store = store;
    this.#keys = keys;
    this.#options = options;
  }

  /**
   * Carries out one change; answers the address that it was about.
   * @throws NotFoundError: the network is gone. ConflictError: the address has another owner. ExhaustedError.
   * UnavailableError: etcd does not answer, and the change may or may not have been carried out.
   */
  commit(change: AddressChange): Promise<IpAddress> {
    const { networkId } = change;
    let queue = this.#queues.get(networkId);
    if (!queue) {
      queue = new PoolQueue(this.#store, this.#keys, networkId, this.#options);
      this.#queues.set(networkId, queue);
    }
    return queue.commit(change);
  }

  /** Returns what a host that is gone took ahead of need. @throws UnavailableError: the pool is in others' hands. */
  async returnSparesOf(host: HostName, networkId: NetworkId): Promise<void> {
    const writer = new PoolWriter(this.#store, this.#keys, networkId, this.#options);
    for (let attempt = 0; attempt < SPARES_ATTEMPTS; attempt++) {
      if ((await writer.returnSpares(host)) === 'done') return;
      await sleep(Math.random() * Math.min(2 ** attempt, 512));
    }
    throw new UnavailableError(`The pool of network ${networkId} is being changed all the time; try again`, {
      network_id: networkId,
    });
  }

  /** Forgets what it knows of a network, when the network is gone. */
  forget(networkId: NetworkId): void {
    if (this.#queues.get(networkId)?.idle) this.#queues.delete(networkId);
  }

  /** Waits for what is in flight and returns the spares, as far as etcd answers. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const queue of this.#queues.values()) await queue[Symbol.asyncDispose]();
  }
}
