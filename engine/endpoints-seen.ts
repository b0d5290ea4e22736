/** What the mirror knows of the endpoints of the cluster, and what a change of one is told as. */
import { FewPerKey } from '../model/few-per-key.js';
import type { EndpointRecord, Peer } from '../model/records.js';
import type { EndpointId, HostName, NetnsPath, NetworkId } from '../model/scalars.js';
import type { KeyValue } from '../store/client.js';
import type { FollowedKey } from '../store/keys.js';
import { endpointAt, type NetworkEntry, peerOf, samePeer, withOne } from './mirror-entry.js';
import { PeerTable } from './peer-table.js';
import { readEndpoint } from './read-endpoint.js';

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

/** Undefined: not known yet. */
type Row = number | undefined;
type EndpointKey = Extract<FollowedKey, { family: 'endpoint' }>;

interface EndpointChange {
  readonly before: Peer | undefined;
  readonly after: Peer | undefined;
  /** About an address that more than one endpoint bears, or bore. */
  readonly contested: boolean;
  readonly record: EndpointRecord | undefined;
}

export class EndpointsSeen {
  readonly #host: HostName;
  readonly #emit: (event: MirrorEvent) => void;
  readonly table = new PeerTable();
  /** This host's. */
  readonly local = new Map<EndpointId, EndpointRecord>();
  /** This host's, by the namespace that they are in. */
  readonly #inNetns = new FewPerKey<string, EndpointId>();

  constructor(host: HostName, emit: (event: MirrorEvent) => void) {
    this.#host = host;
    this.#emit = emit;
  }

  /** `row`: of what is known of it. @throws ConflictError: the record is broken, or another one's. */
  put(at: EndpointKey, network: NetworkEntry, { entry, row }: { entry: KeyValue; row: Row }): void {
    const before = this.#known(row);
    const record = readEndpoint(at, entry.value) ?? endpointAt(at, entry);
    const after = peerOf(record);
    const { createRevision: created, modRevision: modified } = entry;
    const contested = this.table.put(network.peers, after, { row, created, modified });
    this.#tell(at, network, { before, after, contested, record });
  }

  remove(at: EndpointKey, network: NetworkEntry, row: Row): void {
    const before = this.#known(row);
    const contested = row !== undefined && this.table.remove(network.peers, row);
    this.#tell(at, network, { before, after: undefined, contested, record: undefined });
  }

  #known = (row: Row) => (row === undefined ? undefined : this.table.peer(row));

  #tell({ network: networkId, endpoint: id }: EndpointKey, entry: NetworkEntry, all: EndpointChange): void {
    const { before, after, contested, record } = all;
    const wasLocal = entry.local?.has(id) ?? false;
    const isLocal = after?.hostname === this.#host;
    if (wasLocal || isLocal) {
      const own = isLocal ? record : undefined;
      entry.local = withOne(entry.local, id, own);
      this.#setLocal(id, own);
      this.#emit({ kind: 'local', networkId, ...(isLocal ? {} : { gone: id }) });
    }
    // Whose the address is now decides more than this endpoint: the network is compared as a whole.
    const change = { before: wasLocal ? undefined : before, after: isLocal ? undefined : after };
    if (contested) this.#emit({ kind: 'network', networkId });
    else if (!samePeer(change.before, change.after)) this.#emit({ kind: 'peer', networkId, ...change });
  }

  #setLocal(id: EndpointId, record: EndpointRecord | undefined): void {
    const before = this.local.get(id)?.target_netns_path;
    if (before) this.#inNetns.remove(before, id);
    if (record?.target_netns_path) this.#inNetns.add(record.target_netns_path, id);
    if (record) this.local.set(id, record);
    else this.local.delete(id);
  }

  localIn(netns: NetnsPath): EndpointRecord[] {
    return [...this.#inNetns.of(netns)].flatMap(id => this.local.get(id) ?? []);
  }
}
