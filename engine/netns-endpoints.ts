/** Endpoints for anything that has a network namespace, and the list of everybody's. */
import { ConflictError, describeError, NotFoundError } from '../model/errors.js';
import { FewPerKey } from '../model/few-per-key.js';
import type { Logger } from '../model/log.js';
import { EndpointRecord } from '../model/records.js';
import {
  type EndpointId,
  type HostName,
  type IfName,
  type IpAddress,
  type MacAddress,
  type NetnsPath,
  type NetworkId,
  newEndpointId,
} from '../model/scalars.js';
import { unhurried } from '../model/unhurried.js';
import type { Kernel } from '../overlay/kernel.js';
import { freeTargetName } from '../overlay/target-name.js';
import type { KeyValue, StoreClient } from '../store/client.js';
import { readPages } from '../store/follow.js';
import type { Keys } from '../store/keys.js';
import { parseRecord } from '../store/table.js';
import { readKey } from '../store/transaction.js';
import type { Purpose } from './endpoint-record.js';
import type { Endpoints } from './endpoints.js';
import type { Mirror } from './mirror.js';
import { followedTo } from './network-creation.js';

export interface NetnsEndpointsDependencies {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly kernel: Kernel;
  readonly mirror: Mirror;
  readonly endpoints: Endpoints;
  readonly host: HostName;
  readonly log: Logger;
}

export interface NetnsEndpoint {
  readonly networkId: NetworkId;
  /** Undefined: an address alone, without an interface. */
  readonly netns: NetnsPath | undefined;
  readonly address: IpAddress | undefined;
  readonly mac: MacAddress | undefined;
}

export interface EndpointFilter {
  readonly networkId?: NetworkId | undefined;
  readonly hostname?: HostName | undefined;
}

export class NetnsEndpoints {
  readonly #deps: NetnsEndpointsDependencies;
  /** Names that endpoints under way will have, by namespace: their records say so a moment later. */
  readonly #promised = new FewPerKey<NetnsPath, IfName>();

  constructor(deps: NetnsEndpointsDependencies) {
    this.#deps = deps;
  }

  /**
   * Makes an endpoint of this host; with a namespace its interface is there, addressed and up, when this answers.
   * @throws NotFoundError: the network. InvalidError: no namespace, address outside the range. ConflictError: address
   * or MAC is taken. ExhaustedError. KernelError. UnavailableError.
   */
  async create({ networkId, netns, address, mac }: NetnsEndpoint): Promise<EndpointRecord> {
    const { endpoints } = this.#deps;
    if (mac) this.#refuseTwin(networkId, mac);
    const id = newEndpointId();
    if (netns === undefined)
      return endpoints.create({ id, networkId, address, mac, purpose: { kind: 'passive' } });
    await this.#deps.kernel.requireNamespace(netns);
    const ifName = this.#promise(netns);
    try {
      const purpose: Purpose = { kind: 'netns', netns, ifName };
      const wish = { id, networkId, address, mac, purpose };
      return await this.#attach(await endpoints.create(wish, { plugFollows: true }));
    } finally {
      this.#promised.remove(netns, ifName);
    }
  }

  /**
   * Two records of one name would not say which interface is whose, if the agent ended before theirs were made. A name
   * that is taken by what is in no record is exchanged when the interface is made.
   */
  #promise(netns: NetnsPath): IfName {
    const recorded = this.#deps.mirror.localEndpointsIn(netns).filter(({ active }) => active);
    const names = recorded.map(({ target_veth_name: name }) => name as IfName);
    const ifName = freeTargetName([...names, ...this.#promised.of(netns)]);
    this.#promised.add(netns, ifName);
    return ifName;
  }

  /** A given MAC is compared with what is known here: two of one MAC would be one in every FDB. */
  #refuseTwin(networkId: NetworkId, mac: MacAddress): void {
    for (const peer of this.#deps.mirror.peers(networkId).values()) {
      if (peer.mac !== mac) continue;
      throw new ConflictError(
        `MAC address ${mac} is that of endpoint ${peer.endpointId} on host ${peer.hostname}; leave mac_address out or choose another`,
        { network_id: networkId, mac, endpoint_id: peer.endpointId },
      );
    }
  }

  async #attach(record: EndpointRecord): Promise<EndpointRecord> {
    const { endpoints, log } = this.#deps;
    try {
      const ifName = await endpoints.plug(record);
      if (ifName === record.target_veth_name) return record;
      // Another endpoint was put into the same namespace at the same time.
      const renamed = { ...record, target_veth_name: ifName };
      await endpoints.rewrite(renamed);
      return renamed;
    } catch (error) {
      await endpoints.remove(record.id).catch(failed => {
        log.error('endpoint not taken back', { endpoint_id: record.id, err: describeError(failed) });
      });
      throw error;
    }
  }

  /** Endpoints of the cluster as etcd has them; a broken record is logged and left out. */
  async list({ networkId, hostname }: EndpointFilter): Promise<EndpointRecord[]> {
    const { store, keys } = this.#deps;
    const prefix = networkId ? keys.networkEndpoints(networkId) : keys.allNetworkEndpoints;
    const records: EndpointRecord[] = [];
    const pages = { prefix: hostname ? keys.nodeEndpoints(hostname) : prefix, hurried: true };
    for await (const { entries } of readPages(store, pages)) {
      await unhurried(entries, entry => {
        const record = this.#parse(entry);
        if (record && (!networkId || record.network_id === networkId)) records.push(record);
      });
    }
    return records.sort(byAge);
  }

  #parse(entry: KeyValue): EndpointRecord | undefined {
    try {
      return parseRecord(EndpointRecord, entry);
    } catch (error) {
      this.#deps.log.error('record ignored', { key: entry.key, err: describeError(error) });
      return undefined;
    }
  }

  /**
   * Removes an endpoint of this host, whoever made it.
   * @throws NotFoundError. ConflictError: another host owns it. UnavailableError.
   */
  async remove(id: EndpointId): Promise<void> {
    const { mirror, endpoints } = this.#deps;
    if (!mirror.localEndpoint(id)) await this.#require(id);
    await endpoints.remove(id);
  }

  /** A miss in the mirror is no answer: the endpoint may have been made a moment ago. */
  async #require(id: EndpointId): Promise<void> {
    const { store, keys, mirror, host } = this.#deps;
    const { hostname } = mirror.peer(id) ?? {};
    if (hostname !== undefined) {
      throw new ConflictError(
        `Endpoint ${id} belongs to host ${hostname}; delete it there, with --api-url of that host`,
        { endpoint_id: id, hostname },
      );
    }
    const entry = await readKey(store, keys.nodeEndpoint(host, id));
    if (entry) await followedTo(mirror, entry.modRevision);
    if (mirror.localEndpoint(id)) return;
    throw new NotFoundError(
      `Endpoint ${id} does not exist; see sand-agent-cli endpoint-list --hostname all`,
      {
        endpoint_id: id,
      },
    );
  }
}

/** Times in ISO 8601 are in order as texts. */
const byAge = ({ created_at: a }: EndpointRecord, { created_at: b }: EndpointRecord) =>
  a < b ? -1 : a > b ? 1 : 0;
