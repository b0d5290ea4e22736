/**
 * Addresses that are taken for nobody, and their return. An address goes back when two looks some seconds apart find
 * it leaked in the same way, this host's kernel has no port that may bear it, and nothing of the network has changed
 * since the second look. What another host holds is that host's to return: only it can look at its own kernel.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Addresses } from '../ipam/addresses.js';
import { addressTaken } from '../ipam/changes.js';
import type { Logger } from '../model/log.js';
import type { HostName } from '../model/scalars.js';
import { unhurried } from '../model/unhurried.js';
import type { Kernel } from '../overlay/kernel.js';
import type { StoreClient } from '../store/client.js';
import type { Keys } from '../store/keys.js';
import { type AddressFinding, auditAddresses, isLeak } from './address-audit.js';
import { suspectNetworks } from './gc-suspects.js';
import type { HostSettings } from './host.js';
import type { Mirror } from './mirror.js';
import { OwnPorts, portThatMayBear } from './own-ports.js';
import { mendPool } from './pool-mending.js';
import { readTruth, readTruthOf, type Truth } from './truth.js';

/** Chosen: an agent of the original takes the bit, and writes the record within a second. */
const LOOK_AGAIN_AFTER_MS = 3_000;
const ATTEMPTS = 5; // against hosts that write the same pool
const SUSPECTS_MAX = 200; // seven requests each: beyond, all of the truth is sooner read

export interface GcDependencies {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly mirror: Mirror;
  readonly kernel: Kernel;
  readonly addresses: Addresses;
  readonly host: HostSettings;
  readonly log: Logger;
  /** Its presence has ended, or an operator has declared it gone: it writes nothing any more. */
  isGone(host: HostName): boolean;
}

export type LeakOutcome =
  | { readonly state: 'leaked' }
  | { readonly state: 'returned' }
  /** Not to be returned here or now. */
  | { readonly state: 'kept'; readonly because: string };

export interface Leak {
  readonly finding: AddressFinding;
  readonly outcome: LeakOutcome;
}

/** Whose leaks are returned: an agent by itself looks after its own host only. */
export type GcScope = 'own-host' | 'all';

export class Gc {
  readonly #deps: GcDependencies;

  constructor(deps: GcDependencies) {
    this.#deps = deps;
  }

  /** What `collect` would return and what not, without touching anything. @throws UnavailableError. */
  async inspect(): Promise<Leak[]> {
    return this.#judge(await this.#look(), 'all');
  }

  /** @throws UnavailableError. */
  collect(scope: GcScope): Promise<Leak[]> {
    return this.#collect(scope, () => this.#look());
  }

  /** By itself, hour by hour: what is this host's, and where there may be something. @throws UnavailableError. */
  tidy(): Promise<Leak[]> {
    return this.#collect('own-host', () => this.#lookAtSuspects());
  }

  async #collect(scope: GcScope, look: () => Promise<Truth>): Promise<Leak[]> {
    const first = await this.#judge(await look(), scope);
    if (!first.some(({ outcome }) => outcome.state === 'leaked')) return first;
    await sleep(LOOK_AGAIN_AFTER_MS);
    const seen = new Set(first.map(({ finding }) => identityOf(finding)));
    const truth = await look();
    const again = (await this.#judge(truth, scope)).filter(({ finding }) => seen.has(identityOf(finding)));
    const returned: Leak[] = [];
    for (const leak of again) {
      if (leak.outcome.state !== 'leaked') returned.push(leak);
      else if (leak.finding.owner) returned.push(await this.#returnOwned(leak.finding));
    }
    const inPool = again.filter(({ outcome, finding }) => outcome.state === 'leaked' && !finding.owner);
    return [...returned, ...(await this.#returnFromPools(truth, inPool))];
  }

  #look(): Promise<Truth> {
    return readTruth(this.#deps.store, this.#deps.keys);
  }

  async #lookAtSuspects(): Promise<Truth> {
    const { store, keys } = this.#deps;
    const suspects = await suspectNetworks(this.#deps);
    return suspects.size > SUSPECTS_MAX ? this.#look() : readTruthOf(store, keys, suspects);
  }

  async #judge(truth: Truth, scope: GcScope): Promise<Leak[]> {
    const { isGone } = this.#deps;
    const ports = await OwnPorts.look(this.#deps);
    const findings: AddressFinding[] = [];
    await unhurried(truth.networks.values(), network => {
      const found = auditAddresses(network, { nowMs: Date.now(), isGone });
      for (const finding of found) if (isLeak(finding)) findings.push(finding);
    });
    const leaks: Leak[] = [];
    for (const finding of findings)
      leaks.push({ finding, outcome: await this.#outcome(finding, ports, scope) });
    return leaks;
  }

  async #outcome(finding: AddressFinding, ports: OwnPorts, scope: GcScope): Promise<LeakOutcome> {
    const { fault, host, networkId, owner } = finding;
    if (fault === 'spare-of-gone-host') return { state: 'leaked' };
    if (host === undefined && scope === 'own-host') {
      return {
        state: 'kept',
        because: 'an agent of the original may have taken it; sand-agent-cli gc returns it',
      };
    }
    if (host !== undefined && host !== this.#deps.host.name) {
      return { state: 'kept', because: `host ${host} has to look at its containers first; run gc there` };
    }
    const port = portThatMayBear(await ports.of(networkId), owner?.endpoint_id);
    if (port === undefined) return { state: 'leaked' };
    return { state: 'kept', because: `a container of this host may have it: port ${port}` };
  }

  async #returnOwned(finding: AddressFinding): Promise<Leak> {
    const { networkId, address, owner } = finding;
    let held = true;
    await this.#deps.addresses.commit({
      networkId,
      op: randomUUID(),
      step: {
        kind: 'free',
        address,
        from: found => {
          held = found?.op !== owner?.op;
          return held ? addressTaken(address, networkId, found) : undefined;
        },
      },
      endpoints: 0,
      writes: () => [],
    });
    if (held) return { finding, outcome: { state: 'kept', because: 'it changed hands meanwhile' } };
    this.#tell(finding);
    return { finding, outcome: { state: 'returned' } };
  }

  async #returnFromPools(truth: Truth, leaks: readonly Leak[]): Promise<Leak[]> {
    const findings = leaks.map(({ finding }) => finding);
    const results: Leak[] = [];
    for (const id of new Set(findings.map(({ networkId }) => networkId))) {
      const found = findings.filter(({ networkId }) => networkId === id);
      results.push(...(await this.#returnFromPool(truth, found)));
    }
    return results;
  }

  /** Those of one network. The truth is read anew when the network has changed since. */
  async #returnFromPool(truth: Truth, findings: readonly AddressFinding[]): Promise<Leak[]> {
    let [at, left] = [truth, findings];
    for (let attempt = 0; attempt < ATTEMPTS && left.length > 0; attempt++) {
      const network = left[0] && at.networks.get(left[0].networkId);
      if (!network) break;
      const endSparesOf = [...new Set(left.flatMap(({ host }) => host ?? []))];
      const free = left.map(({ address }) => address);
      if (await mendPool(this.#deps, network, at.revision, { free, take: [], endSparesOf })) {
        for (const finding of left) this.#tell(finding);
        return left.map(finding => ({ finding, outcome: { state: 'returned' } }));
      }
      at = await readTruthOf(this.#deps.store, this.#deps.keys, [network.id]);
      const leaked = (await this.#judge(at, 'all')).filter(({ outcome }) => outcome.state === 'leaked');
      const now = new Set(leaked.map(({ finding }) => identityOf(finding)));
      left = left.filter(finding => now.has(identityOf(finding)));
    }
    const because = 'its network changes all the time; try again';
    return left.map(finding => ({ finding, outcome: { state: 'kept', because } }));
  }

  #tell({ networkId, address, text }: AddressFinding): void {
    this.#deps.log.warn('leaked address returned', { network_id: networkId, address, was: text });
  }
}

const identityOf = ({ fault, networkId, address, host, owner }: AddressFinding) =>
  [fault, networkId, address, host, owner?.op].join(' ');
