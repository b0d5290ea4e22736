/** Making a network: record, pool, VNI and name are claimed in one transaction, against agents of both kinds. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from '../ipam/pool.js';
import type { Range } from '../ipam/range.js';
import type { DataPlane } from '../model/data-plane.js';
import { ConflictError, UnavailableError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import { attributesWith, Claim, claimOf, type NetworkAttributes, NetworkRecord } from '../model/records.js';
import type { Cidr, InterfaceAddress, NetworkId, Vni } from '../model/scalars.js';
import type { KeyValue, StoreClient } from '../store/client.js';
import { type Keys, VNI_LOCK_RANGE } from '../store/keys.js';
import { withLegacyLock } from '../store/legacy-lock.js';
import { findRecord, parseRecord } from '../store/table.js';
import {
  type Condition,
  readKey,
  type Transaction,
  type TransactionResult,
  transact,
  type Write,
} from '../store/transaction.js';
import { type HostSettings, netnsOf } from './host.js';
import type { Mirror } from './mirror.js';

// Chosen by us.
const FOLLOWER_WITHIN_MS = 3_000;
const LOCK_WITHIN_MS = 6_000;
const VNI_ATTEMPTS = 64;

export interface NewNetwork {
  readonly id?: NetworkId | undefined;
  readonly name?: string | undefined;
  readonly range?: Cidr | undefined;
  readonly gateway?: InterfaceAddress | undefined;
  /** Undefined: the lowest free one. */
  readonly vni?: Vni | undefined;
  readonly mtu: number;
  /** Undefined: this host's default. */
  readonly dataPlane?: DataPlane | undefined;
  readonly origin: NetworkAttributes['origin'];
  /** Whether the name must be new in the cluster. */
  readonly uniqueName?: boolean;
  /** Written in the same transaction. */
  readonly also?: (network: NetworkRecord) => readonly Write[];
}

export interface NetworksDependencies {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly mirror: Mirror;
  readonly host: HostSettings;
  readonly log: Logger;
}

/** Another network bears the name; the caller looks again. */
export class NameTaken extends ConflictError {}

interface Wish extends NewNetwork {
  readonly id: NetworkId;
  readonly range: Cidr;
  readonly gateway: InterfaceAddress;
}

export class NetworkCreation {
  readonly #deps: NetworksDependencies;
  readonly #wish: Wish;
  readonly #range: Range;
  readonly #refused = new Set<number>();
  /** Claims whose network an agent of the original has deleted: theirs are left behind, and may be taken over. */
  readonly #stale = new Map<string, Condition[]>();

  constructor(deps: NetworksDependencies, range: Range, wish: Wish) {
    this.#deps = deps;
    this.#range = range;
    this.#wish = wish;
  }

  /**
   * Writes the network, and gives the revision of it.
   * @throws ConflictError: the id or the given VNI is taken. NameTaken. ExhaustedError: no VNI is free. UnavailableError.
   */
  async commit(): Promise<number> {
    const { mirror, host } = this.#deps;
    for (let attempt = 0; attempt < VNI_ATTEMPTS; attempt++) {
      this.#refuseTakenVni();
      const skip = Math.floor(Math.random() * Math.min(this.#refused.size * 2, 16));
      const vni = this.#wish.vni ?? mirror.vnis.free(host.maxVni, this.#refused, skip);
      const revision = await this.#attempt(this.#record(vni));
      if (revision !== undefined) return revision;
      await sleep(Math.random() * 5);
    }
    throw new UnavailableError('No VNI could be claimed against so many others at once; try again');
  }

  /** A VNI that was asked for is not exchanged for another. */
  #refuseTakenVni(): void {
    const { vni } = this.#wish;
    if (vni === undefined) return;
    const [bearer] = this.#deps.mirror.vnis.bearersOf(vni);
    if (bearer === undefined && !this.#refused.has(vni)) return;
    throw new ConflictError(
      `VNI ${vni} is used by ${bearer ? `network ${bearer}` : 'another network'}; choose another`,
      {
        vni,
        ...(bearer ? { network_id: bearer } : {}),
      },
    );
  }

  /** Undefined: somebody was first with the VNI. */
  async #attempt(record: NetworkRecord): Promise<number | undefined> {
    const { store, keys } = this.#deps;
    const { writes, conditions } = this.#creation(record);
    const otherwiseRead = [
      { key: keys.network(record.id) },
      { key: keys.name(record.name) },
      { key: keys.vni(record.vxlan_vni) },
    ];
    const result = await transactAmongVnis(store, { conditions, writes, otherwiseRead });
    if (result.committed) return this.#committed(writes, result.revision);
    const [[taken] = [], [named] = [], [claimed] = []] = result.found;
    // What was found to be stale may be gone by now, with the network that somebody was removing.
    this.#stale.clear();
    // Our own first try, whose answer was lost, made exactly this record.
    if (taken?.value === JSON.stringify(record)) return this.#committed(writes, taken.modRevision);
    if (taken) {
      throw new ConflictError(`Network ${record.id} exists already; use it, or choose another id`, {
        network_id: record.id,
      });
    }
    if (named && !(await this.#isStale(named)) && this.#wish.uniqueName) {
      throw new NameTaken(`A network is named ${record.name} already`, { name: record.name });
    }
    if (claimed && !(await this.#isStale(claimed))) this.#refused.add(record.vxlan_vni);
    return undefined;
  }

  /** Agents of the original delete a network without its claims, which they do not know. */
  async #isStale(claim: KeyValue): Promise<boolean> {
    const { store, keys } = this.#deps;
    const claimed = findRecord(Claim, claim);
    // A claim that names nobody holds its VNI or name until it is mended.
    if (!claimed) return false;
    const network = keys.network(claimed.network_id);
    if (await readKey(store, network)) return false;
    this.#stale.set(claim.key, [{ unchanged: claim.key, revision: claim.modRevision }, { absent: network }]);
    return true;
  }

  #committed(writes: readonly Write[], revision: number): number {
    this.#deps.mirror.applyCommit(writes, revision);
    return revision;
  }

  #record(vni: Vni): NetworkRecord {
    const { id, name, range, gateway } = this.#wish;
    return {
      id,
      created_at: new Date().toISOString(),
      name: name ?? `net-sc-${id}`,
      type: 'overlay',
      ns_handle_path: netnsOf(this.#deps.host, id),
      vxlan_vni: vni,
      ip_range: range,
      gateway,
    };
  }

  #creation(record: NetworkRecord): { writes: Write[]; conditions: Condition[] } {
    const { keys, mirror, host } = this.#deps;
    const { mtu, origin, uniqueName, also, gateway, dataPlane = host.dataPlane } = this.#wish;
    const { id, name, vxlan_vni } = record;
    const attributes = attributesWith(dataPlane, { mtu, origin });
    const writes: Write[] = [
      { put: keys.network(id), value: record },
      { put: keys.attributes(id), value: attributes },
      { put: keys.pool(id), value: Pool.fresh(id, this.#range, gateway).toRecord() },
      { put: keys.vni(vxlan_vni), value: claimOf(id) },
      ...(also?.(record) ?? []),
    ];
    const conditions: Condition[] = [{ absent: keys.network(id) }, ...this.#claimable(keys.vni(vxlan_vni))];
    // A name of an older network may be used again through the API; only the first holds the claim.
    if (uniqueName || (this.#wish.name !== undefined && mirror.networksNamed(name).length === 0)) {
      writes.push({ put: keys.name(name), value: claimOf(id) });
      conditions.push(...this.#claimable(keys.name(name)));
    }
    return { writes, conditions };
  }

  #claimable(key: string): readonly Condition[] {
    return this.#stale.get(key) ?? [{ absent: key }];
  }
}

/** A transaction that gives a VNI: not while an agent of the original chooses one, which it does without comparing. */
async function transactAmongVnis(store: StoreClient, change: Transaction): Promise<TransactionResult> {
  const { conditions, writes, otherwiseRead = [] } = change;
  const result = await transact(store, {
    conditions: [...conditions, { empty: VNI_LOCK_RANGE }],
    writes,
    otherwiseRead: [...otherwiseRead, { prefix: VNI_LOCK_RANGE }],
  });
  const isLocked = !result.committed && (result.found.at(-1)?.length ?? 0) > 0;
  if (!isLocked) return result;
  return withLegacyLock(store, VNI_LOCK_RANGE, AbortSignal.timeout(LOCK_WITHIN_MS), lock =>
    transact(store, {
      conditions: [...conditions, { unchanged: lock.key, revision: lock.revision }],
      writes: [...writes, { delete: lock.key }],
      otherwiseRead,
    }),
  );
}

/**
 * An agent of the original may have given the VNI just before us, unknown to our mirror: then the younger takes
 * another. To be called when the follower has delivered all that was written before the network.
 */
export async function yieldVniToOlder(deps: NetworksDependencies, id: NetworkId): Promise<void> {
  const { store, keys, mirror, host, log } = deps;
  const refused = new Set<number>();
  let since = mirror.createRevisionOf(id);
  for (;;) {
    const network = mirror.network(id);
    if (!network) return;
    const { record } = network;
    const older = [...mirror.vnis.bearersOf(record.vxlan_vni)].filter(
      other => other !== id && mirror.createRevisionOf(other) < since,
    );
    if (older.length === 0) return;
    log.warn('VNI given twice, choosing another', { network_id: id, vni: record.vxlan_vni, older });
    const vni = mirror.vnis.free(host.maxVni, refused);
    const [entry, claim] = [
      await readKey(store, keys.network(id)),
      await readKey(store, keys.vni(record.vxlan_vni)),
    ];
    if (!entry) return;
    if (parseRecord(NetworkRecord, entry).vxlan_vni !== record.vxlan_vni) {
      await followedTo(mirror, entry.modRevision);
      continue;
    }
    const writes: Write[] = [
      { put: keys.network(id), value: { ...record, vxlan_vni: vni } },
      { put: keys.vni(vni), value: claimOf(id) },
    ];
    if (claim && parseRecord(Claim, claim).network_id === id) writes.push({ delete: claim.key });
    const conditions: Condition[] = [
      // Other agents may have found the same, and moved the network already.
      { unchanged: keys.network(id), revision: entry.modRevision },
      { absent: keys.vni(vni) },
    ];
    const result = await transactAmongVnis(store, { conditions, writes });
    if (result.committed) {
      since = result.revision;
      mirror.applyCommit(writes, result.revision);
      await followedTo(mirror, result.revision);
    } else refused.add(vni);
  }
}

/** Waits for the follower. @throws UnavailableError when it is cut off from etcd. */
export async function followedTo(mirror: Mirror, revision: number): Promise<void> {
  const late = sleep(FOLLOWER_WITHIN_MS, 'late', { ref: false });
  if ((await Promise.race([mirror.reached(revision), late])) === 'late') {
    throw new UnavailableError('etcd answers requests but its watch is behind; try again');
  }
}
