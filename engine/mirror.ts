/**
 * What this agent knows of the truth, in memory: all networks and bindings, of every endpoint in the cluster its
 * address, MAC and host, and the full records of this host. Fed by the follower and by our own commits, whichever
 * is first; each entry carries the revision that wrote it, so the second one changes nothing.
 */
import { VniMap } from '../ipam/vni.js';
import { describeError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import {
  BindingRecord,
  type EndpointRecord,
  type Network,
  NetworkAttributes,
  type NetworkRecord,
  type Peer,
} from '../model/records.js';
import type { EndpointId, HostName, IpAddress, NetworkId } from '../model/scalars.js';
import type { KeyValue } from '../store/client.js';
import type { Change, Origin } from '../store/follow.js';
import type { FollowedKey, HostKey, Keys } from '../store/keys.js';
import { parseRecord } from '../store/table.js';
import { keyOf, type Write } from '../store/transaction.js';
import { HostsSeen } from './hosts-seen.js';
import { emptyEntry, endpointAt, type NetworkEntry, networkAt, peerOf, samePeer } from './mirror-entry.js';
import { Revisions } from './revisions.js';

/** What a change of the truth may mean for the kernel. */
export type MirrorEvent =
  /** The network's record or attributes changed, or went. */
  | { readonly kind: 'network'; readonly networkId: NetworkId }
  /** An endpoint of this host came, changed or went. */
  | { readonly kind: 'local'; readonly networkId: NetworkId; readonly gone?: EndpointId }
  /** An endpoint of another host came, changed or went. */
  | {
      readonly kind: 'peer';
      readonly networkId: NetworkId;
      readonly before: Peer | undefined;
      readonly after: Peer | undefined;
    }
  | { readonly kind: 'binding-gone'; readonly networkId: NetworkId; readonly hostname: HostName };

export class Mirror {
  readonly #keys: Keys;
  readonly #host: HostName;
  readonly #log: Logger;
  readonly #networks = new Map<NetworkId, NetworkEntry>();
  readonly #names = new Map<string, Set<NetworkId>>();
  readonly #local = new Map<EndpointId, EndpointRecord>();
  readonly #bindings = new Map<string, BindingRecord>();
  readonly #revisions = new Revisions();
  readonly #listeners = new Set<(event: MirrorEvent) => void>();
  readonly vnis = new VniMap();
  readonly hosts: HostsSeen;

  constructor(keys: Keys, host: HostName, log: Logger) {
    this.#keys = keys;
    this.#host = host;
    this.#log = log;
    this.hosts = new HostsSeen(log);
  }

  /** Revision up to which the follower has delivered everything; 0 before the first snapshot. */
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

  /** Names are not unique in an old cluster. */
  networksNamed(name: string): Network[] {
    return [...(this.#names.get(name) ?? [])].flatMap(id => this.network(id) ?? []);
  }

  /** etcd's revision at which the network's record was made: of two that share a VNI, the older keeps it. */
  createRevisionOf(id: NetworkId): number {
    return this.#networks.get(id)?.createRevision ?? Number.POSITIVE_INFINITY;
  }

  peers(id: NetworkId): ReadonlyMap<EndpointId, Peer> {
    return this.#networks.get(id)?.peers ?? NOTHING;
  }

  hasPeerOn(id: NetworkId, hostname: HostName): boolean {
    return [...this.peers(id).values()].some(peer => peer.hostname === hostname);
  }

  /** Those that bear an address which no older endpoint bears: what the kernel is to be told. */
  neighbours(id: NetworkId): Iterable<Peer> {
    return this.#networks.get(id)?.addresses.rightful(this.peers(id)) ?? [];
  }

  /** The endpoint whose record bears an address; of two, the older. */
  bearerOf(id: NetworkId, address: IpAddress): Peer | undefined {
    const entry = this.#networks.get(id);
    const endpoint = entry?.addresses.bearerOf(address);
    return endpoint && entry?.peers.get(endpoint);
  }

  peer(id: EndpointId): Peer | undefined {
    for (const { peers } of this.#networks.values()) {
      const peer = peers.get(id);
      if (peer) return peer;
    }
    return undefined;
  }

  localEndpoint(id: EndpointId): EndpointRecord | undefined {
    return this.#local.get(id);
  }

  localEndpoints(network?: NetworkId): EndpointRecord[] {
    return [...(network ? this.eachLocalEndpoint(network) : this.#local.values())];
  }

  eachLocalEndpoint(network: NetworkId): Iterable<EndpointRecord> {
    return this.#networks.get(network)?.local.values() ?? [];
  }

  localCount(network: NetworkId): number {
    return this.#networks.get(network)?.local.size ?? 0;
  }

  binding(dockerNetwork: string): BindingRecord | undefined {
    return this.#bindings.get(dockerNetwork);
  }

  bindings(network: NetworkId): BindingRecord[] {
    return [...(this.#networks.get(network)?.bindings.values() ?? [])];
  }

  /** Replaces everything by what there is at `revision`, event by event where it differs. */
  applySnapshot(entries: readonly KeyValue[], revision: number, origin: Origin = 'followed'): void {
    if (origin === 'restored') this.#revisions.restart();
    const present = new Set(entries.map(({ key }) => key));
    for (const key of this.#revisions.missingIn(present, revision)) this.#delete(key, revision);
    for (const entry of entries) this.#put(entry);
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
        const createRevision = this.#revisions.has(key) ? 0 : revision;
        this.#put({ key, value: JSON.stringify(write.value), createRevision, modRevision: revision });
      }
    }
  }

  #put(entry: KeyValue): void {
    const { key, modRevision } = entry;
    const parsed = this.#keys.parseFollowed(key);
    if (!parsed || !this.#revisions.put(key, modRevision)) return;
    try {
      this.#store(parsed, entry);
    } catch (error) {
      // A broken value harms only its own object: it counts as absent until it is mended.
      this.#log.error('record ignored', { key, err: describeError(error) });
      this.#forget(parsed);
    }
  }

  #delete(key: string, revision: number): void {
    const parsed = this.#revisions.delete(key, revision) && this.#keys.parseFollowed(key);
    if (parsed) this.#forget(parsed);
  }

  #store(at: FollowedKey, entry: KeyValue): void {
    if ('hostname' in at) this.hosts.put(at, entry);
    else this.#storePart(at, entry);
  }

  #storePart(at: Exclude<FollowedKey, HostKey>, entry: KeyValue): void {
    const network = this.#entryOf(at.network);
    switch (at.family) {
      case 'network':
        this.#setRecord(at.network, network, networkAt(at, entry), entry.createRevision);
        break;
      case 'attributes':
        network.attributes = parseRecord(NetworkAttributes, entry);
        this.#emit({ kind: 'network', networkId: at.network });
        break;
      case 'endpoint':
        this.#setEndpoint(at, endpointAt(at, entry), entry.createRevision);
        break;
      case 'binding': {
        const record = parseRecord(BindingRecord, entry, { network_id: at.network });
        network.bindings.set(at.dockerNetwork, record);
        if (record.hostname === this.#host) this.#bindings.set(at.dockerNetwork, record);
      }
    }
  }

  #forget(at: FollowedKey): void {
    if ('hostname' in at) this.hosts.forget(at);
    else this.#forgetPart(at);
  }

  #forgetPart(at: Exclude<FollowedKey, HostKey>): void {
    const network = this.#entryOf(at.network);
    if (at.family === 'network') this.#setRecord(at.network, network, undefined, 0);
    else if (at.family === 'attributes') network.attributes = undefined;
    else if (at.family === 'endpoint') this.#setEndpoint(at, undefined, 0);
    else this.#forgetBinding(at.network, at.dockerNetwork);
    const { record, attributes, peers, bindings } = network;
    if (!record && !attributes && peers.size + bindings.size === 0) this.#networks.delete(at.network);
  }

  #entryOf(id: NetworkId): NetworkEntry {
    let entry = this.#networks.get(id);
    if (!entry) {
      entry = emptyEntry();
      this.#networks.set(id, entry);
    }
    return entry;
  }

  #setRecord(id: NetworkId, entry: NetworkEntry, record: NetworkRecord | undefined, created: number): void {
    const before = entry.record;
    if (before) {
      this.vnis.remove(before.vxlan_vni, id);
      this.#names.get(before.name)?.delete(id);
      if (this.#names.get(before.name)?.size === 0) this.#names.delete(before.name);
    }
    entry.record = record;
    if (record) {
      if (created > 0) entry.createRevision = created;
      this.vnis.add(record.vxlan_vni, id);
      const named = this.#names.get(record.name);
      if (named) named.add(id);
      else this.#names.set(record.name, new Set([id]));
    }
    this.#emit({ kind: 'network', networkId: id });
  }

  #setEndpoint(at: EndpointKey, record: EndpointRecord | undefined, created: number): void {
    const { network: networkId, endpoint: id } = at;
    const entry = this.#entryOf(networkId);
    const before = entry.peers.get(id);
    const after = record && peerOf(record);
    const contested = entry.addresses.move(id, { from: before?.address, to: after?.address, created });
    if (after) entry.peers.set(id, after);
    else entry.peers.delete(id);
    const wasLocal = entry.local.delete(id);
    const isLocal = after?.hostname === this.#host;
    if (record && isLocal) {
      entry.local.set(id, record);
      this.#local.set(id, record);
    } else if (wasLocal) this.#local.delete(id);
    if (wasLocal || isLocal) this.#emit({ kind: 'local', networkId, ...(isLocal ? {} : { gone: id }) });
    // Whose the address is now decides more than this endpoint: the network is compared as a whole.
    const change = { before: wasLocal ? undefined : before, after: isLocal ? undefined : after };
    if (contested) this.#emit({ kind: 'network', networkId });
    else if (!samePeer(change.before, change.after)) this.#emit({ kind: 'peer', networkId, ...change });
  }

  #forgetBinding(networkId: NetworkId, dockerNetwork: string): void {
    const { bindings } = this.#entryOf(networkId);
    const gone = bindings.get(dockerNetwork);
    bindings.delete(dockerNetwork);
    this.#bindings.delete(dockerNetwork);
    if (gone) this.#emit({ kind: 'binding-gone', networkId, hostname: gone.hostname });
  }

  #emit(event: MirrorEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}

type EndpointKey = Extract<FollowedKey, { family: 'endpoint' }>;
const NOTHING: ReadonlyMap<EndpointId, Peer> = new Map();
