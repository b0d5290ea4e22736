/**
 * What this agent knows of the truth, in memory: all networks and bindings, of every endpoint in the cluster its
 * address, MAC and host, and the full records of this host. Fed by the follower and by our own commits, whichever
 * is first; each entry carries the revision that wrote it, so the second one changes nothing.
 */
import { describeError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import {
  BindingRecord,
  type EndpointRecord,
  type Network,
  type NetworkRecord,
  type Peer,
} from '../model/records.js';
import type { EndpointId, HostName, IpAddress, NetnsPath, NetworkId } from '../model/scalars.js';
import type { KeyValue } from '../store/client.js';
import type { Change, Origin } from '../store/follow.js';
import type { FollowedKey, HostKey, Keys } from '../store/keys.js';
import { parseRecord } from '../store/table.js';
import { keyOf, type Write } from '../store/transaction.js';
import { EndpointsSeen, type MirrorEvent } from './endpoints-seen.js';
import { HostsSeen } from './hosts-seen.js';
import { attributesAt, emptyEntry, isEmpty, type NetworkEntry, networkAt, withOne } from './mirror-entry.js';
import { NetworkIndex } from './network-index.js';
import type { PeerList, Peers } from './peer-table.js';
import { Revisions } from './revisions.js';

export type { MirrorEvent };

export class Mirror {
  readonly #keys: Keys;
  readonly #host: HostName;
  readonly #log: Logger;
  readonly #networks = new Map<NetworkId, NetworkEntry>();
  readonly #index = new NetworkIndex();
  readonly #endpoints: EndpointsSeen;
  readonly #bindings = new Map<string, BindingRecord>();
  readonly #revisions = new Revisions();
  readonly #listeners = new Set<(event: MirrorEvent) => void>();
  /** While a snapshot comes: the keys that it brought, other than those of endpoints, which are marked. */
  #snapshot: { readonly revision: number; readonly present: Set<string> } | undefined;
  readonly vnis = this.#index.vnis;
  readonly hosts: HostsSeen;

  constructor(keys: Keys, host: HostName, log: Logger) {
    this.#keys = keys;
    this.#host = host;
    this.#log = log;
    this.hosts = new HostsSeen(log);
    this.#endpoints = new EndpointsSeen(host, event => this.#emit(event));
  }

  /** Up to which the follower has delivered everything; 0 before the first snapshot. */
  get revision(): number {
    return this.#revisions.followed;
  }

  onEvent(listener: (event: MirrorEvent) => void): void {
    this.#listeners.add(listener);
  }

  /** Resolves when the follower has delivered everything up to `revision`. */
  reached(revision: number): Promise<void> {
    return this.#revisions.reached(revision);
  }

  network(id: NetworkId): Network | undefined {
    const entry = this.#networks.get(id);
    return entry?.record && { record: entry.record, attributes: entry.attributes };
  }

  networks(): Network[] {
    return [...this.#networks.values()].flatMap(({ record, attributes }) =>
      record ? [{ record, attributes }] : [],
    );
  }

  networksNamed(name: string): Network[] {
    return [...this.#index.names.of(name)].flatMap(id => this.network(id) ?? []);
  }

  /** etcd's revision at which the network's record was made: of two that share a VNI, the older keeps it. */
  createRevisionOf(id: NetworkId): number {
    return this.#networks.get(id)?.createRevision ?? Number.POSITIVE_INFINITY;
  }

  #list = (id: NetworkId): PeerList | undefined => this.#networks.get(id)?.peers;

  /** In the order in which they came. */
  peers(id: NetworkId): Peers {
    return this.#endpoints.table.view(this.#list(id));
  }

  hasPeerOn(id: NetworkId, hostname: HostName): boolean {
    return this.#endpoints.table.hasPeerOn(this.#list(id), hostname);
  }

  /** Of other hosts that can be reached, with an address that no older one bears; packed, as the kernel is told. */
  neighbours(id: NetworkId): Uint8Array {
    const isWanted = (hostname: HostName) => hostname !== this.#host && !this.hosts.isCutOff(hostname);
    return this.#endpoints.table.packRightful(this.#list(id), isWanted);
  }

  /** The endpoint whose record bears an address; of two, the older. */
  bearerOf(id: NetworkId, address: IpAddress): Peer | undefined {
    return this.#endpoints.table.bearer(this.#list(id), address);
  }

  /** etcd's revision at which that endpoint's record was made. */
  bornAt = (id: NetworkId, address: IpAddress): number | undefined =>
    this.#endpoints.table.bornAt(this.#list(id), address);

  peer = (id: EndpointId): Peer | undefined => this.#endpoints.table.findAnywhere(id);

  /** How many endpoints each host has. */
  endpointCounts = (): Iterable<[HostName, number]> => this.#endpoints.table.countsByHost();

  localEndpoint = (id: EndpointId): EndpointRecord | undefined => this.#endpoints.local.get(id);

  localEndpoints(network?: NetworkId): EndpointRecord[] {
    return [...(network ? this.eachLocalEndpoint(network) : this.#endpoints.local.values())];
  }

  eachLocalEndpoint(network: NetworkId): Iterable<EndpointRecord> {
    return this.#networks.get(network)?.local?.values() ?? [];
  }

  /** This host's endpoints whose interface is to be in a namespace. */
  localEndpointsIn = (netns: NetnsPath): EndpointRecord[] => this.#endpoints.localIn(netns);

  localCount(network: NetworkId): number {
    return this.#networks.get(network)?.local?.size ?? 0;
  }

  binding(dockerNetwork: string): BindingRecord | undefined {
    return this.#bindings.get(dockerNetwork);
  }

  bindings(network: NetworkId): BindingRecord[] {
    return [...(this.#networks.get(network)?.bindings?.values() ?? [])];
  }

  /** Everything there is at `revision` follows page by page, and what is not among it is gone at the end. */
  beginSnapshot(revision: number, origin: Origin): void {
    if (origin === 'restored') {
      this.#revisions.restart();
      this.#endpoints.table.forgetRevisions();
    }
    this.#endpoints.table.forgetSeen();
    this.#snapshot = { revision, present: new Set() };
  }

  applyPage(entries: readonly KeyValue[]): void {
    for (const entry of entries) this.#put(entry);
  }

  /** Whether this write is known, or none of ours: then the snapshot need not bring its value. */
  knows(key: string, modRevision: number): boolean {
    const at = this.#keys.parseFollowed(key);
    const row = at && this.#rowOf(at);
    if (at && this.#revisions.isNews(key, modRevision, this.#endpoints.table.revisionOf(row))) return false;
    if (row === undefined) this.#snapshot?.present.add(key);
    else this.#endpoints.table.see(row);
    return true;
  }

  endSnapshot(): void {
    const { revision, present } = this.#snapshot ?? { revision: 0, present: new Set<string>() };
    this.#snapshot = undefined;
    for (const key of this.#revisions.missingIn(present, revision)) this.#delete(key, revision);
    for (const { network, endpoint } of this.#endpoints.table.unseen(revision)) {
      this.#delete(this.#keys.networkEndpoint(network, endpoint), revision);
    }
    this.#revisions.advance(revision);
  }

  applyChanges(changes: readonly Change[], revision: number): void {
    for (const change of changes) {
      if (change.kind === 'put') this.#put(change.entry);
      else this.#delete(change.key, change.revision);
    }
    this.#revisions.advance(revision);
  }

  /** Applies a commit of our own, before the follower brings it. */
  applyCommit(writes: readonly Write[], revision: number): void {
    for (const write of writes) {
      const key = keyOf(write);
      if (!key.startsWith(this.#keys.followed)) continue;
      if ('delete' in write) this.#delete(key, revision);
      else if ('put' in write) {
        const at = this.#keys.parseFollowed(key);
        const isKnown = this.#revisions.has(key) || (at && this.#rowOf(at)) !== undefined;
        const revisions = { createRevision: isKnown ? 0 : revision, modRevision: revision };
        this.#put({ key, value: JSON.stringify(write.value), ...revisions });
      }
    }
  }

  /** Where the revision of an endpoint that is well stands. */
  #rowOf(at: FollowedKey): number | undefined {
    if (at.family !== 'endpoint') return undefined;
    return this.#endpoints.table.find(this.#list(at.network), at.endpoint);
  }

  #put(entry: KeyValue): void {
    const { key, modRevision } = entry;
    const { table } = this.#endpoints;
    const at = this.#keys.parseFollowed(key);
    if (!at) return;
    const row = this.#rowOf(at);
    if (row !== undefined) table.see(row);
    else if (at.family !== 'endpoint' || this.#revisions.has(key)) this.#snapshot?.present.add(key);
    if (!this.#revisions.isNews(key, modRevision, table.revisionOf(row))) return;
    try {
      if ('hostname' in at) this.hosts.put(at, entry);
      else this.#storePart(at, entry, row);
      if (at.family === 'endpoint') this.#revisions.drop(key);
      else this.#revisions.set(key, modRevision);
    } catch (error) {
      // A broken value harms only its own object: it counts as absent until it is mended.
      this.#log.error('record ignored', { key, err: describeError(error) });
      this.#revisions.set(key, modRevision);
      this.#snapshot?.present.add(key);
      this.#forget(at);
    }
  }

  #delete(key: string, revision: number): void {
    const at = this.#keys.parseFollowed(key);
    const row = at && this.#rowOf(at);
    if (!this.#revisions.isGone(key, revision, this.#endpoints.table.revisionOf(row))) return;
    if ((this.#revisions.drop(key) || row !== undefined) && at) this.#forget(at);
  }

  #storePart(at: Exclude<FollowedKey, HostKey>, entry: KeyValue, row: number | undefined): void {
    const network = this.#entryOf(at.network);
    switch (at.family) {
      case 'network':
        this.#setRecord(at.network, network, networkAt(at, entry), entry.createRevision);
        break;
      case 'attributes':
        network.attributes = attributesAt(entry);
        this.#emit({ kind: 'network', networkId: at.network });
        break;
      case 'endpoint':
        this.#endpoints.put(at, network, { entry, row });
        break;
      case 'binding': {
        const record = parseRecord(BindingRecord, entry, { network_id: at.network });
        network.bindings = withOne(network.bindings, at.dockerNetwork, record);
        if (record.hostname === this.#host) this.#bindings.set(at.dockerNetwork, record);
      }
    }
  }

  #forget(at: FollowedKey): void {
    if ('hostname' in at) {
      this.hosts.forget(at);
      return;
    }
    const network = this.#entryOf(at.network);
    if (at.family === 'network') this.#setRecord(at.network, network, undefined, 0);
    else if (at.family === 'attributes') network.attributes = undefined;
    else if (at.family === 'endpoint') this.#endpoints.remove(at, network, this.#rowOf(at));
    else this.#forgetBinding(at.network, at.dockerNetwork);
    if (!isEmpty(network)) return;
    this.#networks.delete(at.network);
    this.#endpoints.table.closeList(network.peers);
  }

  #entryOf(id: NetworkId): NetworkEntry {
    const known = this.#networks.get(id);
    if (known) return known;
    // What is cut out of a key would keep the whole of it.
    const own = Buffer.from(id).toString() as NetworkId;
    const entry = emptyEntry(this.#endpoints.table.openList(own));
    this.#networks.set(own, entry);
    return entry;
  }

  #setRecord(id: NetworkId, entry: NetworkEntry, record: NetworkRecord | undefined, created: number): void {
    this.#index.replace(entry.record, record);
    entry.record = record;
    if (created > 0) entry.createRevision = created;
    this.#emit({ kind: 'network', networkId: id });
  }

  #forgetBinding(networkId: NetworkId, dockerNetwork: string): void {
    const entry = this.#entryOf(networkId);
    const gone = entry.bindings?.get(dockerNetwork);
    entry.bindings = withOne(entry.bindings, dockerNetwork, undefined);
    this.#bindings.delete(dockerNetwork);
    if (gone) this.#emit({ kind: 'binding-gone', networkId, hostname: gone.hostname });
  }

  #emit(event: MirrorEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}
