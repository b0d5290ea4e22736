/** The networks of the cluster: made once, found by id or name from any host, gone when nobody needs them. */
import { Pool } from '../ipam/pool.js';
import { parseGateway, parseRange } from '../ipam/range.js';
import type { DataPlane } from '../model/data-plane.js';
import { ConflictError, NotFoundError } from '../model/errors.js';
import {
  attributesWith,
  BindingRecord,
  claimOf,
  dataPlaneOf,
  EndpointRecord,
  mtuOf,
  type Network,
  NetworkRecord,
} from '../model/records.js';
import {
  type Cidr,
  type InterfaceAddress,
  isNetworkId,
  type NetworkId,
  newNetworkId,
} from '../model/scalars.js';
import type { KeyValue } from '../store/client.js';
import { findRecord, parseRecord } from '../store/table.js';
import { type Condition, readKey, readPrefix, transact, type Write } from '../store/transaction.js';
import {
  followedTo,
  NameTaken,
  NetworkCreation,
  type NetworksDependencies,
  type NewNetwork,
  yieldVniToOlder,
} from './network-creation.js';

/** 10.0.0.0/24: ranges may overlap, since networks are isolated. */
export const DEFAULT_RANGE = '10.0.0.0/24' as Cidr;

const REMOVAL_ATTEMPTS = 3;

/** What a network without a name is called, as by every agent. */
export const defaultName = (id: NetworkId) => `net-sc-${id}`;

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
    parseRecord(NetworkRecord, entry);
    await followedTo(mirror, entry.modRevision);
    return mirror.network(id);
  }

  /** @throws ConflictError that lists the ids when several networks bear the name. */
  async findByName(name: string): Promise<Network | undefined> {
    const { store, keys, mirror } = this.#deps;
    const known = this.#known(name);
    if (known) return known;
    const claim = await readKey(store, keys.name(name));
    if (!claim) return undefined;
    await followedTo(mirror, claim.modRevision);
    return this.#known(name);
  }

  #known(name: string): Network | undefined {
    const found = this.#deps.mirror.networksNamed(name);
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
    const creation = new NetworkCreation(this.#deps, range, { ...wish, id, gateway, range: range.cidr });
    const { mirror } = this.#deps;
    // What came before: our own commit is known, and mostly there was nothing else to wait for.
    await followedTo(mirror, (await creation.commit()) - 1);
    await yieldVniToOlder(this.#deps, id);
    const network = mirror.network(id);
    if (!network) throw new ConflictError(`Network ${id} was deleted while it was made`, { network_id: id });
    const { vxlan_vni, name, ip_range } = network.record;
    this.#deps.log.info('network created', { network_id: id, name, vni: vxlan_vni, ip_range });
    return network;
  }

  /** An agent that ended between making a network and yielding its VNI has left that to us. */
  async separateVnis(): Promise<void> {
    const { mirror } = this.#deps;
    for (const { record, attributes } of mirror.networks()) {
      const isShared = [...mirror.vnis.bearersOf(record.vxlan_vni)].length > 1;
      // One of the original's keeps its VNI, which agents of the original do not read again.
      if (attributes && isShared) await yieldVniToOlder(this.#deps, record.id);
    }
  }

  /** The network of that name, made when absent; of racing hosts one makes it and all get the same. */
  async ensureNamed(name: string, wish: Omit<NewNetwork, 'name' | 'uniqueName'>): Promise<Network> {
    // One that is not known here is refused by its claim: no read before the first try.
    for (let found = this.#known(name); ; found = await this.findByName(name)) {
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
    for (let attempt = 1; ; attempt++) {
      if (await this.#tryRemove(await this.get(id))) return;
      const conflict = await this.#inUse(id);
      // Whoever used it is gone by now; or another agent has removed it, as the next look tells.
      if (attempt === REMOVAL_ATTEMPTS || (conflict.facts['hosts'] as unknown[]).length > 0) throw conflict;
    }
  }

  /** Read from etcd: the mirror may not know yet what refused the removal. */
  async #inUse(id: NetworkId): Promise<ConflictError> {
    const { store, keys } = this.#deps;
    const [endpoints, bindings, nodes] = await Promise.all([
      readPrefix(store, keys.networkEndpoints(id)),
      readPrefix(store, keys.bindings(id)),
      readPrefix(store, keys.networkNodes(id)),
    ]);
    const hostsOf = (entries: readonly KeyValue[], schema: typeof EndpointRecord | typeof BindingRecord) => [
      ...new Set(
        entries.map(
          entry => findRecord(schema, entry)?.hostname ?? `an unknown host (${entry.key} is broken)`,
        ),
      ),
    ];
    const because = (hosts: readonly string[], text: string) =>
      new ConflictError(`Network ${id} ${text}`, { network_id: id, hosts });
    if (endpoints.length > 0) {
      const hosts = hostsOf(endpoints, EndpointRecord);
      return because(hosts, `has endpoints on ${hosts.join(', ')}; delete them first`);
    }
    if (bindings.length > 0) {
      const hosts = hostsOf(bindings, BindingRecord);
      return because(
        hosts,
        `is bound to Docker networks of ${hosts.join(', ')}; docker network rm them first`,
      );
    }
    const hosts = nodes.map(({ key }) => key.slice(keys.networkNodes(id).length));
    if (hosts.length === 0) return because([], 'was in use until now; try again');
    const prefix = keys.networkNodes(id);
    return because(hosts, `is set up on ${hosts.join(', ')}; delete ${prefix}… if those hosts are gone`);
  }

  /**
   * Deletes a network that Docker made, if its last binding and endpoint are gone. etcd decides: of two hosts that
   * untie it at once each still sees the other's binding in its mirror, and neither would delete it.
   */
  async removeUnused(id: NetworkId): Promise<boolean> {
    const network = this.#deps.mirror.network(id);
    return network?.attributes?.origin === 'docker' && this.#tryRemove(network);
  }

  /** Changes a network that only this host's unfinished `docker network create` knows of. */
  async reshape(
    network: Network,
    change: {
      readonly gateway?: InterfaceAddress;
      readonly mtu?: number | undefined;
      readonly dataPlane?: DataPlane | undefined;
    },
    pendingBinding: string,
  ): Promise<void> {
    const { store, keys, mirror } = this.#deps;
    const { id, ip_range } = network.record;
    const conditions: Condition[] = [
      { exists: keys.network(id) },
      { exists: pendingBinding },
      { empty: keys.networkEndpoints(id) },
    ];
    if (change.gateway) {
      // Another gateway is another pool: nobody may hold an address of the old one.
      conditions.push({ empty: keys.addressOwners(id) }, { empty: keys.addressSpares(id) });
    }
    const writes: Write[] = [];
    if (change.mtu !== undefined || change.dataPlane !== undefined) {
      const { mtu = mtuOf(network), dataPlane = dataPlaneOf(network) } = change;
      writes.push({ put: keys.attributes(id), value: attributesWith(dataPlane, { origin: 'docker', mtu }) });
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
        `Network ${id} is in use and keeps its gateway ${network.record.gateway}, MTU ${mtuOf(network)} and data plane ${dataPlaneOf(network)}`,
        { network_id: id },
      );
    }
    mirror.applyCommit(writes, result.revision);
  }

  async #tryRemove({ record }: Network): Promise<boolean> {
    const { store, keys, mirror, log } = this.#deps;
    const { id, name, vxlan_vni } = record;
    const writes: Write[] = [
      { delete: keys.network(id) },
      { delete: keys.attributes(id) },
      { delete: keys.pool(id) },
      { deletePrefix: keys.addressOwners(id) },
      { deletePrefix: keys.addressSpares(id) },
      // They may be another network's: names are given again, and agents of the original do not look at claims of VNIs.
      ...[keys.vni(vxlan_vni), keys.name(name)].map(key => ({ deleteIf: key, value: claimOf(id) })),
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
}
