/**
 * This agent's claim to its host name: a presence key with a lease. Without it nothing is served and nothing changed:
 * every transaction compares the key (the store's fence), so also one that was under way when the claim was lost, or
 * of a process that was asleep meanwhile, changes nothing (docs/decisions/0014).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConflictError, describeError, UnavailableError } from '../model/errors.js';
import { HostRecord, Presence } from '../model/host-record.js';
import type { Logger } from '../model/log.js';
import { rateLimited } from '../model/log.js';
import type { KeyValue, StoreClient } from '../store/client.js';
import type { Keys } from '../store/keys.js';
import { parseRecord } from '../store/table.js';
import { send, type Write } from '../store/transaction.js';
import { decideClaim, decideHeld, type Held, recordAfterClaim } from './claim-decision.js';
import type { HostSettings } from './host.js';
import type { Identity } from './identity.js';
import type { Mirror } from './mirror.js';

// Chosen by us.
const LEASE_SECONDS = 30; // a restart or an upgrade of the agent takes a few
const RENEW_MS = 12_000; // two tries within a lease, and under 0.1 requests a second
// "Current within 2 s of etcd's return"; one that is there and late is asked half as often, and not by all at once.
const RETRY_MS = { first: 1_000, most: 2_000 };
const REFUSED_RETRY_MS = 10_000;
const LEAVE_WITHIN_MS = 500;

export type ClaimState =
  | { readonly state: 'claiming' }
  | ({ readonly state: 'held'; readonly lease: string } & Held)
  | { readonly state: 'refused'; readonly reason: ConflictError };

export interface HostClaimDependencies {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly mirror: Mirror;
  readonly host: HostSettings;
  readonly identity: Identity;
  readonly version: string;
  readonly log: Logger;
  /** The claim was lost and stands again: what was given away meanwhile is in the mirror. */
  regained(): void;
}

export class HostClaim implements AsyncDisposable {
  readonly #deps: HostClaimDependencies;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  readonly #waiting = new Set<() => void>();
  #state: ClaimState = { state: 'claiming' };
  #round: 'first' | 'again' = 'first';
  /** In a row. */
  #failures = 0;
  #wake = new AbortController();
  #loop: Promise<void> = Promise.resolve();

  constructor(deps: HostClaimDependencies) {
    this.#deps = deps;
    this.#log = rateLimited(deps.log);
    deps.mirror.hosts.onChange(hostname => {
      if (hostname === deps.host.name) this.#noticed();
    });
  }

  get state(): ClaimState {
    return this.#state;
  }

  /** Why this agent serves nobody; undefined while it does, or while nobody can say. */
  get refusal(): ConflictError | undefined {
    return this.#state.state === 'refused' ? this.#state.reason : undefined;
  }

  start(): void {
    this.#loop = this.#run();
  }

  /** Nobody waits any longer, and nothing is claimed any more; the presence stays. */
  stop(): void {
    this.#stop.abort();
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }

  /** The line to etcd is back, or a transaction found the claim lost: looks at once. */
  lookNow = (): void => {
    this.#failures = 0;
    this.#wake.abort();
  };

  /** Resolves when the claim is held or refused for the first time, and with every change after that. */
  async settled(): Promise<ClaimState> {
    while (this.#state.state === 'claiming' && !this.#stop.signal.aborted) await this.#change();
    return this.#state;
  }

  /** Resolves when the claim is held; false: the agent stopped before that. */
  async held(): Promise<boolean> {
    while (this.#state.state !== 'held' && !this.#stop.signal.aborted) await this.#change();
    return !this.#stop.signal.aborted;
  }

  #change(): Promise<void> {
    return new Promise(resolve => this.#waiting.add(resolve));
  }

  #become(state: ClaimState): void {
    this.#state = state;
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }

  /** The mirror has heard of this host's record or presence. */
  #noticed(): void {
    const { mirror, host, identity } = this.#deps;
    const now = mirror.hosts.presence(host.name);
    const verdict =
      this.#state.state === 'held' ? decideHeld(host.name, identity, this.#state, now) : ('lost' as const);
    if (verdict === 'held') return;
    if (verdict === 'lost') this.lookNow();
    else this.#refuse(verdict);
  }

  #refuse(reason: ConflictError): void {
    if (this.refusal?.message !== reason.message) {
      this.#deps.log.error('this agent does not serve', { err: describeError(reason) });
    }
    this.#become({ state: 'refused', reason });
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      this.#wake = new AbortController();
      const pause = await this.#step().catch(error => {
        this.#log.warn('presence of this host not renewed', { err: describeError(error) });
        return this.#retryPause();
      });
      await sleep(pause, undefined, { signal: AbortSignal.any([signal, this.#wake.signal]) }).catch(() => {
        // Whoever wakes us may do so again and again.
        return sleep(20 + Math.random() * 30, undefined, { signal }).catch(() => undefined);
      });
    }
  }

  #retryPause(): number {
    const pause = Math.min(RETRY_MS.first * 2 ** this.#failures, RETRY_MS.most) * (0.75 + Math.random() / 4);
    this.#failures += 1;
    return pause;
  }

  /** Answers how long to pause. */
  async #step(): Promise<number> {
    const { store, mirror, host } = this.#deps;
    if (this.#state.state === 'held') {
      const known = mirror.hosts.presence(host.name)?.revision === this.#state.revision;
      if (known && (await store.keepLease(this.#state.lease))) {
        this.#failures = 0;
        return RENEW_MS;
      }
    }
    const refused = this.#refusedByMirror();
    if (refused) {
      this.#refuse(refused);
      return REFUSED_RETRY_MS;
    }
    const before = this.#state.state;
    const lease = await store.grantLease(LEASE_SECONDS);
    const claimed = await this.#claim(lease);
    if (typeof claimed === 'number') {
      const again = this.#round === 'again';
      await this.#take(claimed, lease);
      if (again || before === 'refused') this.#deps.regained();
      return RENEW_MS;
    }
    await store.revokeLease(lease).catch(() => undefined);
    this.#refuse(claimed);
    return REFUSED_RETRY_MS;
  }

  /** The follower tells when that ends: etcd need not be asked. */
  #refusedByMirror(): ConflictError | undefined {
    const { mirror, host, identity } = this.#deps;
    const presence = mirror.hosts.presence(host.name)?.record;
    const decision = decideClaim(host.name, identity, presence, this.#round);
    return decision.kind === 'refused' ? decision.reason : undefined;
  }

  /** Everything that was given away before the claim is known before anything is served under it. */
  async #take(revision: number, lease: string): Promise<void> {
    const { store, keys, mirror, host, log, identity } = this.#deps;
    await Promise.race([mirror.reached(revision), this.#stopped()]);
    store.fence = { key: keys.presence(host.name), revision, lost: this.lookNow };
    this.#round = 'again';
    this.#failures = 0;
    log.info('host name claimed', { hostname: host.name, identity: identity.id });
    this.#become({ state: 'held', revision, lease });
  }

  #stopped = () => new Promise<void>(resolve => this.#stop.signal.addEventListener('abort', () => resolve()));

  /** Presence and record in one transaction. Answers its revision, or why not. */
  async #claim(lease: string): Promise<number | ConflictError> {
    const { store, keys, mirror, host, identity } = this.#deps;
    const [presenceKey, hostKey] = [keys.presence(host.name), keys.host(host.name)];
    let found: { presence?: KeyValue | undefined; host?: KeyValue | undefined } = {};
    for (;;) {
      const presence = found.presence && parseRecord(Presence, found.presence);
      const decision = decideClaim(host.name, identity, presence, this.#round);
      if (decision.kind === 'refused') return decision.reason;
      const writes = this.#writes(found.host && parseRecord(HostRecord, found.host), lease);
      const result = await send(store, {
        conditions: [
          { unchanged: presenceKey, revision: found.presence?.modRevision ?? 0 },
          { unchanged: hostKey, revision: found.host?.modRevision ?? 0 },
        ],
        writes,
        otherwiseRead: [{ key: presenceKey }, { key: hostKey }],
      });
      if (result.committed) {
        mirror.applyCommit(writes, result.revision);
        return result.revision;
      }
      found = { presence: result.found[0]?.[0], host: result.found[1]?.[0] };
    }
  }

  #writes(before: HostRecord | undefined, lease: string): Write[] {
    const { keys, host, identity, version } = this.#deps;
    const { name: hostname, vtep, apiHostname: api_hostname } = host;
    const own = { hostname, identity: identity.id, vtep, api_hostname, version };
    const presence: Presence = { hostname, identity: identity.id, instance: identity.instance, vtep };
    return [
      { put: keys.presence(hostname), value: presence, lease },
      { put: keys.host(hostname), value: recordAfterClaim(before, own, new Date()) },
    ];
  }

  /**
   * Leaves the presence to its lease, so that a restart goes unnoticed, and says in it that nobody serves: another
   * identity need not wait. Without etcd's answer the lease alone says so.
   */
  async #leave(): Promise<void> {
    const { store, keys, host, identity } = this.#deps;
    if (this.#state.state !== 'held' || !store.answering) return;
    const { revision, lease } = this.#state;
    const put = keys.presence(host.name);
    const value: Presence = {
      hostname: host.name,
      identity: identity.id,
      instance: identity.instance,
      vtep: host.vtep,
      left_at: new Date().toISOString(),
    };
    const left = send(store, { conditions: [{ unchanged: put, revision }], writes: [{ put, value, lease }] });
    const late = sleep(LEAVE_WITHIN_MS, undefined, { ref: false });
    await Promise.race([left.catch(() => undefined), late]);
  }

  /** Ends the loop; whoever closes what writes to etcd does so before. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    // A call that etcd does not answer ends with the store.
    await Promise.race([this.#loop, sleep(LEAVE_WITHIN_MS, undefined, { ref: false })]);
    await this.#leave();
  }
}

/** While nobody can say who holds the name. */
export const notYetClaimed = (where: string) =>
  new UnavailableError(
    `etcd at ${where} has not confirmed this host's name yet; check etcd, then try again`,
    {
      etcd: where,
    },
  );
