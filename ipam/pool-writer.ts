/**
 * One pool as this agent sees and writes it: what it believes of the pool since its last transaction there, and the
 * transactions. Each compares what it relies on (the pool's revision, each address's owner) and, refused, brings
 * back what there really is, so that a retry needs no read of its own.
 */
import type { Logger } from '../model/log.js';
import type { HostName, IpAddress, NetworkId } from '../model/scalars.js';
import type { KeyValue, StoreClient } from '../store/client.js';
import { type Keys, poolLockRange } from '../store/keys.js';
import type { HeldLock } from '../store/legacy-lock.js';
import { type Condition, distinctWrites, transact, type Write } from '../store/transaction.js';
import type { AddressChange } from './changes.js';
import { planGroup, unknownOwners } from './group.js';
import type { Asked, Plan, PoolView } from './plan.js';
import { parseReads, readsFor, viewAfter } from './pool-view.js';

const AHEAD_MAX = 64; // chosen: spare addresses of one host in one pool

export interface AddressesOptions {
  readonly host: HostName;
  readonly log: Logger;
  /** Key of the record that bears the address: an endpoint's, or the network's own for its gateway. */
  bearer(networkId: NetworkId, address: IpAddress): string | undefined;
  /** Writes that follow from this host's number of endpoints in the network changing by `delta`. */
  presence(networkId: NetworkId, delta: number): readonly Write[];
  /** Called with every commit before its callers are answered. */
  committed(writes: readonly Write[], revision: number): void;
}

/** `gone`: the network's record. `locked`: an agent of the original holds the pool. */
export type Sent = 'committed' | 'lost' | 'locked' | 'gone';

export class PoolWriter {
  readonly #store: StoreClient;
  readonly #keys: Keys;
  readonly #options: AddressesOptions;
  readonly #networkId: NetworkId;
  #view: PoolView | undefined;
  /** Whether the view is of this rush of callers: losing with an older one is no sign of contention. */
  #fresh = false;
  #ahead = 0;
  /** What the last plan held to be in use without the pool saying so. */
  #doubts: Asked = { addresses: [], bearers: [] };

  constructor(store: StoreClient, keys: Keys, networkId: NetworkId, options: AddressesOptions) {
    this.#store = store;
    this.#keys = keys;
    this.#networkId = networkId;
    this.#options = options;
  }

  /** Callers begin to come after a pause. */
  begin(): void {
    this.#fresh = false;
  }

  /** The next plan starts with a read. */
  forgetView(): void {
    this.#view = undefined;
  }

  /** Whether addresses that this host took ahead of need may be left. */
  get mayHaveSpares(): boolean {
    return this.#ahead > 0 || this.#view?.spares.get(this.#options.host) !== undefined;
  }

  /** Decides the group, after a read where one is due. Undefined: the network is gone. */
  async plan(changes: readonly AddressChange[]): Promise<Plan | undefined> {
    const known = this.#view && unknownOwners(this.#view, changes).length === 0;
    if (!known && !(await this.#read(changes))) return undefined;
    if (!this.#view) return undefined;
    const { host, bearer } = this.#options;
    const plan = planGroup(this.#view, changes, {
      networkId: this.#networkId,
      host,
      keys: this.#keys,
      ahead: this.#ahead,
      nowMs: Date.now(),
      bearer: address => bearer(this.#networkId, address),
    });
    this.#doubts = plan.doubts;
    return plan;
  }

  /** Sends the plan that was decided last, in one transaction. */
  async send(plan: Plan, lock: HeldLock | undefined): Promise<Sent> {
    const view = this.#view;
    if (!view) return 'lost';
    const networkId = this.#networkId;
    const writes = distinctWrites([...plan.writes, ...this.#presence([...plan.settled.keys()])]);
    const conditions: Condition[] = [{ exists: this.#keys.network(networkId) }, ...plan.conditions];
    if (lock) {
      conditions.push({ unchanged: lock.key, revision: lock.revision });
      writes.push({ delete: lock.key });
    } else if (plan.poolWritten) {
      conditions.push({ empty: poolLockRange(networkId) });
    }
    const { addresses, bearers } = plan.doubts;
    const asked = { addresses: [...plan.settled.values(), ...addresses], bearers };
    const otherwiseRead = readsFor(this.#keys, networkId, asked);
    const result = await transact(this.#store, { conditions, writes, otherwiseRead });
    if (!result.committed) return this.#absorb(result.found, asked);
    this.#view = viewAfter(view, plan, result.revision);
    this.#fresh = true;
    this.#options.committed(writes, result.revision);
    return 'committed';
  }

  /**
   * Whether a refused change has been carried out, and only the reply was lost: its owner key bears its own `op`
   * then. What it wrote is made known as any commit is.
   */
  isOwnFirstTry(change: AddressChange, address: IpAddress): boolean {
    const known = this.#view?.owners.get(address);
    if (known?.owner?.op !== change.op) return false;
    this.#options.committed([...change.writes(address), ...this.#presence([change])], known.revision);
    return true;
  }

  /** In a network that is gone nothing is left to give back; the records of what was freed go now. */
  async freeInGone(changes: readonly AddressChange[]): Promise<void> {
    const writes = changes.flatMap(change => {
      const address = change.step.address as IpAddress;
      return [...change.writes(address), { delete: this.#keys.addressOwner(this.#networkId, address) }];
    });
    writes.push(...this.#presence(changes));
    const result = await transact(this.#store, { conditions: [], writes: distinctWrites(writes) });
    this.#options.committed(writes, result.revision);
  }

  /** Returns a host's spares to the pool, by default this one's; tells whether somebody else was faster with the pool. */
  async returnSpares(host = this.#options.host): Promise<'done' | 'raced'> {
    const { log } = this.#options;
    if (!this.#view && !(await this.#read([]))) this.#ahead = 0;
    const view = this.#view;
    const own = view?.spares.get(host);
    if (!own) this.#ahead = 0;
    if (!view || !own) return 'done';
    const pool = view.pool.copy();
    const owned = own.addresses.filter(address => view.owners.get(address)?.owner);
    for (const address of own.addresses) if (!owned.includes(address)) pool.free(address);
    const spareKey = this.#keys.addressSpare(this.#networkId, host);
    const poolKey = this.#keys.pool(this.#networkId);
    const asked: Asked = { addresses: owned, bearers: [] };
    const stillOwned = owned.map((address): Condition => {
      const { revision = 0 } = view.owners.get(address) ?? {};
      return { unchanged: this.#keys.addressOwner(this.#networkId, address), revision };
    });
    const result = await transact(this.#store, {
      conditions: [
        { unchanged: poolKey, revision: view.poolRevision },
        { unchanged: spareKey, revision: own.revision },
        ...stillOwned,
        { empty: poolLockRange(this.#networkId) },
      ],
      writes: [{ put: poolKey, value: pool.toRecord() }, { delete: spareKey }],
      otherwiseRead: readsFor(this.#keys, this.#networkId, asked),
    });
    if (!result.committed) {
      this.#absorb(result.found, asked);
      return 'raced';
    }
    this.#ahead = 0;
    const spares = new Map(view.spares);
    spares.delete(host);
    this.#view = { ...view, pool, poolRevision: result.revision, spares };
    log.debug('spare addresses returned', { network_id: this.#networkId, count: own.addresses.length });
    return 'done';
  }

  #presence(changes: readonly AddressChange[]): readonly Write[] {
    const delta = changes.reduce((sum, { endpoints }) => sum + endpoints, 0);
    return delta === 0 ? [] : this.#options.presence(this.#networkId, delta);
  }

  /** Reads the pool and what the changes name. False: the network is gone. */
  async #read(changes: readonly AddressChange[]): Promise<boolean> {
    const networkId = this.#networkId;
    const named = changes.flatMap(({ step }) => (step.address === 'lowest' ? [] : [step.address]));
    const asked: Asked = {
      addresses: [...new Set([...named, ...this.#doubts.addresses])],
      bearers: [
        ...new Set(named.flatMap(address => this.#options.bearer(networkId, address) ?? [])),
        ...this.#doubts.bearers,
      ],
    };
    // A condition that never holds: the reads come in one answer, at one revision.
    const never: Condition = { unchanged: this.#keys.pool(networkId), revision: -1 };
    const result = await transact(this.#store, {
      conditions: [never],
      writes: [],
      otherwiseRead: readsFor(this.#keys, networkId, asked),
    });
    return !result.committed && this.#absorb(result.found, asked) !== 'gone';
  }

  #absorb(found: readonly KeyValue[][], asked: Asked): Exclude<Sent, 'committed'> {
    const before = this.#view;
    const at = { keys: this.#keys, networkId: this.#networkId, before };
    const read = parseReads(at, asked, found);
    if (read.state === 'gone') {
      this.#view = undefined;
      return 'gone';
    }
    const raced = this.#fresh && before !== undefined && before.poolRevision !== read.view.poolRevision;
    if (raced) this.#ahead = Math.min(Math.max(this.#ahead * 2, 2), AHEAD_MAX);
    this.#view = read.view;
    this.#fresh = true;
    return read.locked ? 'locked' : 'lost';
  }
}
