/**
 * The addresses of a cluster's networks, from this agent's side. Per network one transaction is in flight; callers
 * who arrive meanwhile share the next one. A transaction compares what it relies on (the pool's revision, each
 * address's owner) and, refused, brings back what there really is, so that a retry needs no read of its own. After
 * a lost race the agent takes some addresses ahead of need into a key of its own, serves callers from there
 * without touching the pool, and gives them back when the rush is over.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type SandError, toSandError, UnavailableError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import type { HostName, IpAddress, NetworkId } from '../model/scalars.js';
import type { KeyValue, StoreClient } from '../store/client.js';
import { type Keys, poolLockRange } from '../store/keys.js';
import { type HeldLock, withLegacyLock } from '../store/legacy-lock.js';
import { type Condition, distinctWrites, transact, type Write } from '../store/transaction.js';
import type { AddressChange } from './changes.js';
import { networkGone, type Plan, type PoolView, planGroup, unknownOwners } from './group.js';
import { parseReads, readsFor, viewAfter } from './pool-view.js';

// Chosen by us.
const GROUP_MAX = 30; // times four writes, plus the bookkeeping, stays under etcd's 128
const AHEAD_MAX = 64; // spare addresses of one host in one pool
const GIVE_BACK_AFTER_MS = 3_000;
const GIVE_UP_AFTER_MS = 6_000; // a change that has not come through by then is refused

export interface AddressesOptions {
  readonly host: HostName;
  readonly log: Logger;
  /** True when a living endpoint's record bears the address. */
  borne(networkId: NetworkId, address: IpAddress): boolean;
  /** Writes that follow from this host's number of endpoints in the network changing by `delta`. */
  presence(networkId: NetworkId, delta: number): readonly Write[];
  /** Called with every commit before its callers are answered. */
  committed(writes: readonly Write[], revision: number): void;
}

interface Waiting {
  readonly change: AddressChange;
  readonly since: number;
  /** A refusal counts only when the pool was read for it: the view may have been old. */
  rechecked: boolean;
  resolve(address: IpAddress): void;
  reject(error: SandError): void;
}

interface NetworkQueue {
  readonly networkId: NetworkId;
  waiting: Waiting[];
  running: boolean;
  view: PoolView | undefined;
  ahead: number;
  giveBack: NodeJS.Timeout | undefined;
}

export class Addresses implements AsyncDisposable {
  readonly #store: StoreClient;
  readonly #keys: Keys;
  readonly #options: AddressesOptions;
  readonly #queues = new Map<NetworkId, NetworkQueue>();
  readonly #running = new Set<Promise<void>>();

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
    return new Promise((resolve, reject) => {
      const queue = this.#queueOf(change.networkId);
      queue.waiting.push({ change, since: Date.now(), rechecked: false, resolve, reject });
      this.#run(queue);
    });
  }

  /** Forgets what it knows of a network, when the network is gone. */
  forget(networkId: NetworkId): void {
    const queue = this.#queues.get(networkId);
    if (!queue || queue.running) return;
    clearTimeout(queue.giveBack);
    this.#queues.delete(networkId);
  }

  #queueOf(networkId: NetworkId): NetworkQueue {
    let queue = this.#queues.get(networkId);
    if (!queue) {
      queue = { networkId, waiting: [], running: false, view: undefined, ahead: 0, giveBack: undefined };
      this.#queues.set(networkId, queue);
    }
    return queue;
  }

  #run(queue: NetworkQueue): void {
    if (queue.running) return;
    queue.running = true;
    const work = this.#drain(queue).finally(() => {
      queue.running = false;
      this.#running.delete(work);
    });
    this.#running.add(work);
  }

  async #drain(queue: NetworkQueue): Promise<void> {
    // Callers of the same turn of the event loop share the first transaction too.
    await Promise.resolve();
    for (let lost = 0; queue.waiting.length > 0; ) {
      const group = queue.waiting.splice(0, GROUP_MAX);
      try {
        const left = await this.#attempt(queue, group);
        lost = left.length === group.length ? lost + 1 : 0;
        queue.waiting.unshift(...this.#withoutExpired(left));
        if (lost > 0) await sleep(Math.random() * Math.min(2 ** lost, 32));
      } catch (thrown) {
        queue.view = undefined;
        const error = toSandError(thrown);
        for (const { reject } of group) reject(error);
      }
    }
    this.#scheduleGiveBack(queue);
  }

  #withoutExpired(left: readonly Waiting[]): Waiting[] {
    const [kept, expired] = [[] as Waiting[], [] as Waiting[]];
    for (const item of left) (Date.now() - item.since > GIVE_UP_AFTER_MS ? expired : kept).push(item);
    for (const { reject, change } of expired) {
      reject(
        new UnavailableError(`The pool of network ${change.networkId} is too contended; try again`, {
          network_id: change.networkId,
        }),
      );
    }
    return kept;
  }

  /** One transaction for the group. Answers those who have to come again. */
  async #attempt(queue: NetworkQueue, group: readonly Waiting[], lock?: HeldLock): Promise<Waiting[]> {
    const changes = group.map(({ change }) => change);
    if (!queue.view || unknownOwners(queue.view, changes).length > 0) {
      const refreshed = await this.#read(queue, changes);
      if (!refreshed) return this.#networkIsGone(queue, group);
    }
    const view = queue.view;
    if (!view) return [...group];
    const plan = this.#plan(queue, view, changes);
    const again = this.#rejectRefused(queue, group, plan);
    if (plan.settled.size === 0) return again;
    const result = await this.#send(queue, view, plan, lock);
    if (result === 'committed') {
      for (const { change, resolve } of group) {
        const address = plan.settled.get(change);
        if (address !== undefined) resolve(address);
      }
      return again;
    }
    const left = group.filter(({ change }) => plan.settled.has(change) || plan.deferred.includes(change));
    if (result === 'gone') return this.#networkIsGone(queue, left);
    if (result === 'locked' && !lock) return this.#attemptLocked(queue, left);
    return this.#settleOwnFirstTry(queue, left);
  }

  #plan(queue: NetworkQueue, view: PoolView, changes: readonly AddressChange[]): Plan {
    const { networkId, ahead } = queue;
    const { host, borne } = this.#options;
    return planGroup(view, changes, {
      networkId,
      host,
      keys: this.#keys,
      ahead,
      nowMs: Date.now(),
      borne: address => borne(networkId, address),
    });
  }

  /** Answers who has to come again: those deferred, and those whose refusal may rest on an old view. */
  #rejectRefused(queue: NetworkQueue, group: readonly Waiting[], plan: Plan): Waiting[] {
    const again = group.filter(({ change }) => plan.deferred.includes(change));
    for (const item of group) {
      const error = plan.refused.get(item.change);
      if (!error) continue;
      if (error.kind === 'invalid' || item.rechecked) {
        item.reject(error);
        continue;
      }
      item.rechecked = true;
      again.push(item);
    }
    if (plan.settled.size === 0 && again.length > 0) queue.view = undefined;
    return again;
  }

  async #attemptLocked(queue: NetworkQueue, group: readonly Waiting[]): Promise<Waiting[]> {
    const range = poolLockRange(queue.networkId);
    return withLegacyLock(this.#store, range, AbortSignal.timeout(GIVE_UP_AFTER_MS), async lock => {
      queue.view = undefined;
      return this.#attempt(queue, group, lock);
    });
  }

  /** A change whose reply was lost stands in its owner key with its own `op`. */
  #settleOwnFirstTry(queue: NetworkQueue, group: readonly Waiting[]): Waiting[] {
    return group.filter(({ change, resolve }) => {
      for (const [address, { owner }] of queue.view?.owners ?? []) {
        if (owner?.op !== change.op) continue;
        resolve(address);
        return false;
      }
      return true;
    });
  }

  /** Nothing can be taken any more; what is given back is gone with the network, its records go now. */
  async #networkIsGone(queue: NetworkQueue, group: readonly Waiting[]): Promise<Waiting[]> {
    queue.view = undefined;
    const { networkId } = queue;
    const freeing = group.filter(({ change }) => change.step.kind === 'free');
    for (const item of group) if (!freeing.includes(item)) item.reject(networkGone(networkId));
    if (freeing.length === 0) return [];
    const writes = freeing.flatMap(({ change }) => [
      ...change.writes(change.step.address as IpAddress),
      { delete: this.#keys.addressOwner(networkId, change.step.address as IpAddress) },
    ]);
    writes.push(
      ...this.#presence(
        networkId,
        freeing.map(({ change }) => change),
      ),
    );
    const result = await transact(this.#store, { conditions: [], writes: distinctWrites(writes) });
    if (result.committed) this.#options.committed(writes, result.revision);
    for (const { change, resolve } of freeing) resolve(change.step.address as IpAddress);
    return [];
  }

  async #send(
    queue: NetworkQueue,
    view: PoolView,
    plan: Plan,
    lock: HeldLock | undefined,
  ): Promise<'committed' | 'lost' | 'locked' | 'gone'> {
    const { networkId } = queue;
    const settled = [...plan.settled.keys()];
    const writes = distinctWrites([...plan.writes, ...this.#presence(networkId, settled)]);
    const conditions: Condition[] = [{ exists: this.#keys.network(networkId) }, ...plan.conditions];
    if (lock) {
      conditions.push({ unchanged: lock.key, revision: lock.revision });
      writes.push({ delete: lock.key });
    } else if (plan.poolWritten) {
      conditions.push({ empty: poolLockRange(networkId) });
    }
    const addresses = [...plan.settled.values()];
    const reads = readsFor(this.#keys, networkId, addresses);
    const result = await transact(this.#store, { conditions, writes, otherwiseRead: reads });
    if (result.committed) {
      queue.view = viewAfter(view, plan, result.revision);
      this.#options.committed(writes, result.revision);
      return 'committed';
    }
    return this.#absorb(queue, result.found, addresses);
  }

  #presence(networkId: NetworkId, changes: readonly AddressChange[]): readonly Write[] {
    const delta = changes.reduce((sum, { endpoints }) => sum + endpoints, 0);
    return delta === 0 ? [] : this.#options.presence(networkId, delta);
  }

  /** Reads the pool and the owners that the changes name. False: the network is gone. */
  async #read(queue: NetworkQueue, changes: readonly AddressChange[]): Promise<boolean> {
    const named = changes.flatMap(({ step }) => (step.address === 'lowest' ? [] : [step.address]));
    const addresses = [...new Set(named)];
    // A condition that never holds: the reads come in one answer, at one revision.
    const never: Condition = { unchanged: this.#keys.pool(queue.networkId), revision: -1 };
    const result = await transact(this.#store, {
      conditions: [never],
      writes: [],
      otherwiseRead: readsFor(this.#keys, queue.networkId, addresses),
    });
    return !result.committed && this.#absorb(queue, result.found, addresses) !== 'gone';
  }

  #absorb(
    queue: NetworkQueue,
    found: readonly KeyValue[][],
    addresses: readonly IpAddress[],
  ): 'lost' | 'locked' | 'gone' {
    const before = queue.view;
    const read = parseReads(this.#keys, queue.networkId, addresses, found, before);
    if (read.state === 'gone') return 'gone';
    queue.view = read.view;
    const raced = before !== undefined && before.poolRevision !== read.view.poolRevision;
    if (raced) queue.ahead = Math.min(Math.max(queue.ahead * 2, 2), AHEAD_MAX);
    return read.locked ? 'locked' : 'lost';
  }

  #scheduleGiveBack(queue: NetworkQueue): void {
    clearTimeout(queue.giveBack);
    const own = queue.view?.spares.get(this.#options.host);
    if (!own) return;
    queue.giveBack = setTimeout(() => void this.#giveBack(queue).catch(() => undefined), GIVE_BACK_AFTER_MS);
    queue.giveBack.unref();
  }

  /** Returns this host's spares to the pool, unless the rush is on again. */
  async #giveBack(queue: NetworkQueue): Promise<void> {
    const { networkId, view } = queue;
    const { host, log } = this.#options;
    const own = view?.spares.get(host);
    if (queue.running || !view || !own) return;
    queue.running = true;
    try {
      const pool = view.pool.copy();
      for (const address of own.addresses) pool.free(address);
      const spareKey = this.#keys.addressSpare(networkId, host);
      const result = await transact(this.#store, {
        conditions: [
          { unchanged: this.#keys.pool(networkId), revision: view.poolRevision },
          { unchanged: spareKey, revision: own.revision },
          { empty: poolLockRange(networkId) },
        ],
        writes: [{ put: this.#keys.pool(networkId), value: pool.toRecord() }, { delete: spareKey }],
        otherwiseRead: readsFor(this.#keys, networkId, []),
      });
      queue.ahead = 0;
      if (result.committed) {
        const spares = new Map(view.spares);
        spares.delete(host);
        queue.view = { ...view, pool, poolRevision: result.revision, spares };
      } else if (this.#absorb(queue, result.found, []) === 'gone') queue.view = undefined;
      log.debug('spare addresses returned', { network_id: networkId, count: own.addresses.length });
    } finally {
      queue.running = false;
      if (queue.waiting.length > 0) this.#run(queue);
      else this.#scheduleGiveBack(queue);
    }
  }

  /** Waits for what is in flight and returns the spares, as far as etcd answers. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#running);
    for (const queue of this.#queues.values()) {
      clearTimeout(queue.giveBack);
      await this.#giveBack(queue).catch(() => undefined);
      clearTimeout(queue.giveBack);
    }
  }
}
