/** The networks of the cluster: made once, found by id or name from any host, gone when nobody needs them. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from '../ipam/pool.js';
import { macFor, parseGateway, parseRange, type Range } from '../ipam/range.js';
import { ConflictError, NotFoundError, UnavailableError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import {
  type BindingRecord,
  mtuOf,
  type Network,
  type NetworkAttributes,
  type NetworkRecord,
} from '../model/records.js';
import {
  type Cidr,
  type InterfaceAddress,
  isNetworkId,
  type NetworkId,
  newNetworkId,
  type Vni,
} from '../model/scalars.js';
import type { StoreClient } from '../store/client.js';
import { type Keys, VNI_LOCK_RANGE } from '../store/keys.js';
import { type HeldLock, withLegacyLock } from '../store/legacy-lock.js';
import { type Condition, readKey, transact, type Write } from '../store/transaction.js';
import { type HostSettings, netnsOf } from './host.js';
import type { Mirror } from './mirror.js';

// Chosen by us.
const FOLLOWER_WITHIN_MS = 3_000;
const LOCK_WITHIN_MS = 6_000;
const VNI_ATTEMPTS = 64;

/** 10.0.0.0/24: ranges may overlap, since networks are isolated. */
export const DEFAULT_RANGE = '10.0.0.0/24' as Cidr;

export interface NewNetwork {
  readonly id?: NetworkId | undefined;
  readonly name?: string | undefined;
  readonly range?: Cidr | undefined;
  readonly gateway?: InterfaceAddress | undefined;
  readonly mtu: number;
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

/** Thrown inside when another agent was first; the caller looks again. */
class NameTaken extends ConflictError {}

export class Networks {
  readonly #deps: NetworksDependencies;

  constructor(deps: NetworksDependencies) {
    this.#deps = deps;
  }

  list(): Network[] {
    return this.#deps.mirror
      .networks()
      .sort((a, b) => a.record.created_at.localeCompare(b.record.created_at));
  }

  /** By id; a miss in the mirror is followed by one read, since another host may have made it just now. */
  async get(id: NetworkId): Promise<Network> {
    const network = await this.findById(id);
    if (network) return network;
    throw new NotFoundError(`Network ${id} does not exist; see sand-agent-cli network-list`, {
      network_id: id,
    });
  }

  async findById(id: NetworkId): Promise<Network | undefined> {
    const { store, keys, mirror } = this.#deps;
    const known = mirror.network(id);
    if (known) return known;
    const entry = await readKey(store, keys.network(id));
    if (!entry) return undefined;
    await this.#followerAt(entry.modRevision);
    return mirror.network(id);
  }

  /** @throws ConflictError that lists the ids when several networks bear the name. */
  async findByName(name: string): Promise<Network | undefined> {
    const { store, keys, mirror } = this.#deps;
    let found = mirror.networksNamed(name);
    if (found.length === 0) {
      const claim = await readKey(store, keys.name(name));
      if (!claim) return undefined;
      await this.#followerAt(claim.modRevision);
      found = mirror.networksNamed(name);
    }
    if (found.length > 1) {
      const ids = found.map(({ record }) => record.id);
      throw new ConflictError(`${ids.length} networks are named ${name}: ${ids.join(', ')}; use the id`, {
        name,
        network_ids: ids,
      });
    }
    return found[0];
  }

  /** By id or by name, as a person types it. */
  async resolve(idOrName: string): Promise<Network> {
    if (isNetworkId(idOrName)) return this.get(idOrName);
    const network = await this.findByName(idOrName);
    if (network) return network;
    throw new NotFoundError(`No network is named ${idOrName}; see sand-agent-cli network-list`, {
      name: idOrName,
    });
  }

  /**
   * Makes a network: record, pool, VNI and name in one transaction.
   * @throws ConflictError: the id or, when it must be unique, the name is taken. ExhaustedError: no VNI is free.
   */
  async create(wish: NewNetwork): Promise<Network> {
    const range = parseRange(wish.range ?? DEFAULT_RANGE);
    const gateway = parseGateway(range, wish.gateway);
    const id = wish.id ?? newNetworkId();
    const revision = await this.#claim(id, range, gateway, wish);
    await this.#followerAt(revision);
    await this.#yieldToOlder(id);
    const network = this.#deps.mirror.network(id);
    if (!network) throw new ConflictError(`Network ${id} was deleted while it was made`, { network_id: id });
    const { vxlan_vni, name, ip_range } = network.record;
    this.#deps.log.info('network created', { network_id: id, name, vni: vxlan_vni, ip_range });
    return network;
  }

  /** The network of that name, made when absent; of racing hosts one makes it and all get the same. */
  async ensureNamed(name: string, wish: Omit<NewNetwork, 'name' | 'uniqueName'>): Promise<Network> {
    for (;;) {
      const found = await this.findByName(name);
      if (found) return found;
      try {
        return await this.create({ ...wish, name, uniqueName: true });
      } catch (error) {
        if (!(error instanceof NameTaken)) throw error;
      }
    }
  }

  /**
   * Deletes a network that nothing uses.
   * @throws ConflictError that says what is still there.
   */
  async remove(id: NetworkId): Promise<void> {
    const network = await this.get(id);
    if (await this.#tryRemove(network)) return;
    const { mirror } = this.#deps;
    const hosts = [...new Set([...mirror.peers(id).values()].map(({ hostname }) => hostname))];
    const what =
      hosts.length > 0
        ? `has endpoints on ${hosts.join(', ')}; delete them first`
        : 'is bound to Docker networks; docker network rm them first';
    throw new ConflictError(`Network ${id} ${what}`, { network_id: id, hosts });
  }

  /** Deletes a network that Docker made, if its last binding and endpoint are gone. */
  async removeUnused(id: NetworkId): Promise<boolean> {
    const { mirror } = this.#deps;
    const network = mirror.network(id);
    if (network?.attributes?.origin !== 'docker') return false;
    if (mirror.peers(id).size + mirror.bindings(id).length > 0) return false;
    return this.#tryRemove(network);
  }

  /** Changes a network that only this host's unfinished `docker network create` knows of. */
  async reshape(
    network: Network,
    change: { readonly gateway?: InterfaceAddress; readonly mtu?: number },
    pendingBinding: string,
  ): Promise<void> {
    const { store, keys, mirror } = this.#deps;
    const { id, ip_range } = network.record;
    const conditions: Condition[] = [
      { exists: keys.network(id) },
      { exists: pendingBinding },
      { empty: keys.networkEndpoints(id) },
      { empty: keys.addressOwners(id) },
    ];
    const writes: Write[] = [];
    if (change.mtu !== undefined) {
      writes.push({ put: keys.attributes(id), value: { origin: 'docker', mtu: change.mtu } });
    }
    if (change.gateway) {
      const pool = Pool.fresh(id, parseRange(ip_range), change.gateway);
      writes.push({ put: keys.pool(id), value: pool.toRecord() });
      writes.push({ put: keys.network(id), value: { ...network.record, gateway: change.gateway } });
    }
    const shared = mirror.bindings(id).some(({ hostname }) => hostname !== this.#deps.host.name);
    const result = shared ? undefined : await transact(store, { conditions, writes });
    if (!result?.committed) {
      throw new ConflictError(
        `Network ${id} is in use and keeps its gateway ${network.record.gateway} and MTU ${mtuOf(network)}`,
        { network_id: id },
      );
    }
    mirror.applyCommit(writes, result.revision);
  }

  async #tryRemove({ record }: Network): Promise<boolean> {
    const { store, keys, mirror, log } = this.#deps;
    const { id, name, vxlan_vni } = record;
    const claim = await readKey(store, keys.name(name));
    const ownsName = claim !== undefined && JSON.parse(claim.value).network_id === id;
    const writes: Write[] = [
      { delete: keys.network(id) },
      { delete: keys.attributes(id) },
      { delete: keys.pool(id) },
      { delete: keys.vni(vxlan_vni) },
      { deletePrefix: keys.addressOwners(id) },
      { deletePrefix: keys.addressSpares(id) },
      ...(ownsName ? [{ delete: keys.name(name) }] : []),
    ];
    const empty = [keys.networkEndpoints(id), keys.bindings(id), keys.networkNodes(id)];
    const conditions: Condition[] = [
      { exists: keys.network(id) },
      ...empty.map(prefix => ({ empty: prefix })),
    ];
    const result = await transact(store, { conditions, writes });
    if (!result.committed) return false;
    mirror.applyCommit(writes, result.revision);
    log.info('network removed', { network_id: id, name, vni: vxlan_vni });
    return true;
  }

  /** One transaction that claims everything; tried again with another VNI when somebody was first. */
  async #claim(id: NetworkId, range: Range, gateway: InterfaceAddress, wish: NewNetwork): Promise<number> {
    const { store, keys, mirror } = this.#deps;
    const refused = new Set<number>();
    for (let attempt = 0; attempt < VNI_ATTEMPTS; attempt++) {
      const skip = Math.floor(Math.random() * Math.min(attempt * 2, 16));
      const vni = mirror.vnis.free(this.#deps.host.maxVni, refused, skip);
      const record = this.#record(id, vni, range, gateway, wish);
      const { writes, conditions } = this.#creation(record, range, gateway, wish);
      const otherwiseRead = [
        { key: keys.network(id) },
        { key: keys.name(record.name) },
        { key: keys.vni(vni) },
        { prefix: VNI_LOCK_RANGE },
      ];
      const unlocked: Condition[] = [...conditions, { empty: VNI_LOCK_RANGE }];
      let result = await transact(store, { conditions: unlocked, writes, otherwiseRead });
      if (!result.committed && (result.found[3]?.length ?? 0) > 0) {
        result = await this.#lockedTransact(conditions, writes, otherwiseRead);
      }
      if (result.committed) return this.#committed(writes, result.revision);
      const [[taken] = [], [named] = [], [claimed] = []] = result.found;
      // Our own first try, whose answer was lost, made exactly this record.
      if (taken?.value === JSON.stringify(record)) return this.#committed(writes, taken.modRevision);
      if (taken)
        throw new ConflictError(`Network ${id} exists already; use it, or choose another id`, {
          network_id: id,
        });
      if (named && wish.uniqueName) throw new NameTaken(`A network is named ${record.name} already`);
      if (claimed) refused.add(vni);
      await sleep(Math.random() * 5);
    }
    throw new UnavailableError('No VNI could be claimed against so many others at once; try again');
  }

  #committed(writes: readonly Write[], revision: number): number {
    this.#deps.mirror.applyCommit(writes, revision);
    return revision;
  }

  #lockedTransact(
    conditions: readonly Condition[],
    writes: readonly Write[],
    otherwiseRead: readonly ({ key: string } | { prefix: string })[],
  ) {
    const { store } = this.#deps;
    const locked = (lock: HeldLock) =>
      transact(store, {
        conditions: [...conditions, { unchanged: lock.key, revision: lock.revision }],
        writes: [...writes, { delete: lock.key }],
        otherwiseRead,
      });
    return withLegacyLock(store, VNI_LOCK_RANGE, AbortSignal.timeout(LOCK_WITHIN_MS), locked);
  }

  #record(id: NetworkId, vni: Vni, range: Range, gateway: InterfaceAddress, wish: NewNetwork): NetworkRecord {
    return {
      id,
      created_at: new Date().toISOString(),
      name: wish.name ?? `net-sc-${id}`,
      type: 'overlay',
      ns_handle_path: netnsOf(this.#deps.host, id),
      vxlan_vni: vni,
      ip_range: range.cidr,
      gateway,
    };
  }

  #creation(record: NetworkRecord, range: Range, gateway: InterfaceAddress, wish: NewNetwork) {
    const { keys } = this.#deps;
    const { id, name, vxlan_vni } = record;
    const attributes: NetworkAttributes = { mtu: wish.mtu, origin: wish.origin };
    const writes: Write[] = [
      { put: keys.network(id), value: record },
      { put: keys.attributes(id), value: attributes },
      { put: keys.pool(id), value: Pool.fresh(id, range, gateway).toRecord() },
      { put: keys.vni(vxlan_vni), value: { network_id: id } },
      ...(wish.also?.(record) ?? []),
    ];
    const conditions: Condition[] = [{ absent: keys.network(id) }, { absent: keys.vni(vxlan_vni) }];
    // A name of an older network may be used again through the API; only the first holds the claim.
    if (wish.uniqueName || (wish.name !== undefined && this.#deps.mirror.networksNamed(name).length === 0)) {
      writes.push({ put: keys.name(name), value: { network_id: id } });
      conditions.push({ absent: keys.name(name) });
    }
    return { writes, conditions };
  }

  /** An agent of the original may have given the VNI to an older network at the same moment. */
  async #yieldToOlder(id: NetworkId): Promise<void> {
    const { store, keys, mirror, host, log } = this.#deps;
    for (;;) {
      const network = mirror.network(id);
      if (!network) return;
      const { record } = network;
      const ours = mirror.createRevisionOf(id);
      const older = [...mirror.vnis.bearersOf(record.vxlan_vni)].filter(
        other => other !== id && mirror.createRevisionOf(other) < ours,
      );
      if (older.length === 0) return;
      log.warn('VNI given twice, choosing another', { network_id: id, vni: record.vxlan_vni, older });
      const vni = mirror.vnis.free(host.maxVni, new Set());
      const writes: Write[] = [
        { put: keys.network(id), value: { ...record, vxlan_vni: vni } },
        { put: keys.vni(vni), value: { network_id: id } },
      ];
      const conditions: Condition[] = [{ exists: keys.network(id) }, { absent: keys.vni(vni) }];
      const result = await transact(store, { conditions, writes });
      if (!result.committed) continue;
      mirror.applyCommit(writes, result.revision);
      await this.#followerAt(result.revision);
    }
  }

  /** @throws UnavailableError when the follower is cut off from etcd. */
  async #followerAt(revision: number): Promise<void> {
    const late = AbortSignal.timeout(FOLLOWER_WITHIN_MS);
    const timeout = new Promise<never>((_, reject) => {
      late.addEventListener('abort', () =>
        reject(new UnavailableError('etcd answers requests but its watch is behind; try again')),
      );
    });
    await Promise.race([this.#deps.mirror.reached(revision), timeout]);
  }
}

export type { BindingRecord };
export { macFor };
