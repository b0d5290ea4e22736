/** The changes of one pool in turn: one transaction is in flight, callers who arrive meanwhile share the next. */
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { type SandError, toSandError, UnavailableError } from '../model/errors.js';
import type { IpAddress, NetworkId } from '../model/scalars.js';
import type { StoreClient } from '../store/client.js';
import { type Keys, poolLockRange } from '../store/keys.js';
import { type HeldLock, withLegacyLock } from '../store/legacy-lock.js';
import { type AddressChange, networkGone } from './changes.js';
import type { Plan } from './plan.js';
import { type AddressesOptions, PoolWriter } from './pool-writer.js';

// Chosen by us.
const GROUP_MAX = 28; // times four writes, plus the bookkeeping, stays under etcd's 128
const GIVE_BACK_AFTER_MS = 3_000;
const GIVE_BACK_ATTEMPTS = 20; // against hosts that write the same pool
const GIVE_UP_AFTER_MS = 6_000; // a change that has not come through by then is refused

/** Milliseconds, twice as many after every second lost race. */
const pauseAfter = (lost: number) => 2 * Math.min(2 ** (lost / 2), 32);

interface Waiting {
  readonly change: AddressChange;
  readonly since: number;
  /** A refusal counts only when the pool was read for it: the view may have been old. */
  rechecked: boolean;
  resolve(address: IpAddress): void;
  reject(error: SandError): void;
}

export class PoolQueue implements AsyncDisposable {
  readonly #store: StoreClient;
  readonly #networkId: NetworkId;
  readonly #pool: PoolWriter;
  #waiting: Waiting[] = [];
  /** The work in flight; undefined when idle. */
  #running: Promise<void> | undefined;
  #giveBack: NodeJS.Timeout | undefined;
  /** Whether the last transaction was of several callers. */
  #shared = false;

  constructor(store: StoreClient, keys: Keys, networkId: NetworkId, options: AddressesOptions) {
    this.#store = store;
    this.#networkId = networkId;
    this.#pool = new PoolWriter(store, keys, networkId, options);
  }

  get idle(): boolean {
    return this.#running === undefined;
  }

  commit(change: AddressChange): Promise<IpAddress> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ change, since: Date.now(), rechecked: false, resolve, reject });
      this.#run(() => this.#drain());
    });
  }

  #run(work: () => Promise<void>): void {
    if (this.#running) return;
    clearTimeout(this.#giveBack);
    const running = work().finally(() => {
      this.#running = undefined;
      if (this.#waiting.length > 0) this.#run(() => this.#drain());
      else this.#scheduleGiveBack();
    });
    this.#running = running;
    running.catch(() => undefined);
  }

  /**
   * Who calls in this turn of the event loop shares the first transaction, too. Callers who were answered together come
   * again together, in two turns: the first of them would go alone, and all others wait for it. One alone waits for nobody.
   */
  async #gather(): Promise<void> {
    await Promise.resolve();
    if (!this.#shared) return;
    await nextTurn();
    await nextTurn();
  }

  async #drain(): Promise<void> {
    await this.#gather();
    this.#pool.begin();
    for (let lost = 0; this.#waiting.length > 0; ) {
      const group = this.#waiting.splice(0, GROUP_MAX);
      this.#shared = group.length > 1;
      try {
        const left = await this.#attempt(group);
        lost = left.length === group.length ? lost + 1 : 0;
        this.#waiting.unshift(...this.#withoutExpired(left));
        // The first loss brings what there is now, and is followed at once: a pause would make that old again.
        if (lost > 0 && lost % 2 === 0) await sleep(Math.random() * pauseAfter(lost));
      } catch (thrown) {
        this.#pool.forgetView();
        const error = toSandError(thrown);
        for (const { reject } of group) reject(error);
      }
    }
  }

  #withoutExpired(left: readonly Waiting[]): Waiting[] {
    const [kept, expired] = [[] as Waiting[], [] as Waiting[]];
    for (const item of left) (Date.now() - item.since > GIVE_UP_AFTER_MS ? expired : kept).push(item);
    for (const { reject } of expired) {
      reject(
        new UnavailableError(`The pool of network ${this.#networkId} is too contended; try again`, {
          network_id: this.#networkId,
        }),
      );
    }
    return kept;
  }

  /** One transaction for the group. Answers those who have to come again. */
  async #attempt(group: readonly Waiting[], lock?: HeldLock): Promise<Waiting[]> {
    const plan = await this.#pool.plan(group.map(({ change }) => change));
    if (!plan) return this.#networkIsGone(group);
    const refused = this.#rejectRefused(group, plan);
    const deferred = group.filter(({ change }) => plan.deferred.includes(change));
    const settled = group.filter(({ change }) => plan.settled.has(change));
    const again = [...refused, ...deferred];
    const sent = settled.length === 0 ? 'lost' : await this.#pool.send(plan, lock);
    if (sent === 'gone') return this.#networkIsGone([...settled, ...again]);
    if (sent === 'locked' && !lock) return this.#attemptLocked([...settled, ...again]);
    if (refused.length > 0) this.#pool.forgetView();
    if (sent !== 'committed') return [...this.#withoutOwnFirstTry(settled, plan), ...again];
    for (const { change, resolve } of settled) resolve(plan.settled.get(change) as IpAddress);
    return again;
  }

  /** Answers those whose refusal may rest on an old view: it counts when the pool was read for it. */
  #rejectRefused(group: readonly Waiting[], plan: Plan): Waiting[] {
    return group.filter(item => {
      const error = plan.refused.get(item.change);
      if (!error) return false;
      const final = error.kind === 'invalid' || item.rechecked;
      if (final) item.reject(error);
      item.rechecked = true;
      return !final;
    });
  }

  #attemptLocked(group: readonly Waiting[]): Promise<Waiting[]> {
    const signal = AbortSignal.timeout(GIVE_UP_AFTER_MS);
    return withLegacyLock(this.#store, poolLockRange(this.#networkId), signal, lock => {
      this.#pool.forgetView();
      return this.#attempt(group, lock);
    });
  }

  #withoutOwnFirstTry(group: readonly Waiting[], plan: Plan): Waiting[] {
    return group.filter(({ change, resolve }) => {
      const address = plan.settled.get(change) as IpAddress;
      const done = this.#pool.isOwnFirstTry(change, address);
      if (done) resolve(address);
      return !done;
    });
  }

  /** Nothing can be taken any more; giving back succeeds. */
  async #networkIsGone(group: readonly Waiting[]): Promise<Waiting[]> {
    const freeing = group.filter(({ change }) => change.step.kind === 'free');
    for (const item of group) if (!freeing.includes(item)) item.reject(networkGone(this.#networkId));
    if (freeing.length > 0) await this.#pool.freeInGone(freeing.map(({ change }) => change));
    for (const { change, resolve } of freeing) resolve(change.step.address as IpAddress);
    return [];
  }

  /** When the rush is over, not before: a spare is what the next caller needs. */
  #scheduleGiveBack(): void {
    clearTimeout(this.#giveBack);
    if (!this.#pool.mayHaveSpares) return;
    this.#giveBack = setTimeout(() => this.#run(() => this.#returnSpares()), GIVE_BACK_AFTER_MS);
    this.#giveBack.unref();
  }

  async #returnSpares(): Promise<void> {
    try {
      for (let attempt = 0; (await this.#pool.returnSpares()) === 'raced'; attempt++) {
        // Those who have just come need them.
        if (this.#waiting.length > 0 || attempt === GIVE_BACK_ATTEMPTS) return;
        await sleep(Math.random() * Math.min(2 ** attempt, 32));
      }
    } catch {
      // etcd is away: they are tried again after the next pause.
      this.#pool.forgetView();
    }
  }

  /** Waits for what is in flight and returns the spares, as far as etcd answers. */
  async [Symbol.asyncDispose](): Promise<void> {
    while (this.#running) await this.#running;
    clearTimeout(this.#giveBack);
    if (this.#pool.mayHaveSpares) await this.#returnSpares();
  }
}
