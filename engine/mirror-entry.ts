/** What the mirror keeps of one network. */
import {
  type BindingRecord,
  EndpointRecord,
  NetworkAttributes,
  NetworkRecord,
  type Peer,
} from '../model/records.js';
import { addressOf, type EndpointId, type NetworkId } from '../model/scalars.js';
import type { KeyValue } from '../store/client.js';
import { parseRecord } from '../store/table.js';
import type { PeerList } from './peer-table.js';

export interface NetworkEntry {
  record: NetworkRecord | undefined;
  createRevision: number;
  attributes: NetworkAttributes | undefined;
  readonly peers: PeerList;
  /** Undefined where there are none: of ten thousand networks a host has endpoints in a few. */
  local: Map<EndpointId, EndpointRecord> | undefined;
  bindings: Map<string, BindingRecord> | undefined;
}

/** Parts of a network arrive in any order, before its record too. */
export const emptyEntry = (peers: PeerList): NetworkEntry => ({
  record: undefined,
  createRevision: 0,
  attributes: undefined,
  peers,
  local: undefined,
  bindings: undefined,
});

export const isEmpty = ({ record, attributes, peers, bindings }: NetworkEntry) =>
  !record && !attributes && peers.size === 0 && bindings === undefined;

/** Sets or removes one of a map that is there only while it holds something. */
export function withOne<K, V>(
  map: Map<K, V> | undefined,
  key: K,
  value: V | undefined,
): Map<K, V> | undefined {
  const changed = map ?? new Map<K, V>();
  if (value === undefined) changed.delete(key);
  else changed.set(key, value);
  return changed.size > 0 ? changed : undefined;
}

export const peerOf = (record: EndpointRecord): Peer => ({
  endpointId: record.id,
  address: addressOf(record.target_veth_ip),
  mac: record.target_veth_mac,
  hostname: record.hostname,
  vtep: record.host_ip,
});

/** @throws ConflictError: broken, or of another endpoint or network than its key says. */
export const endpointAt = (
  at: { network: NetworkId; endpoint: EndpointId },
  entry: KeyValue,
): EndpointRecord => parseRecord(EndpointRecord, entry, { id: at.endpoint, network_id: at.network });

/** @throws ConflictError: broken, or of another network than its key says. */
export function networkAt(at: { network: NetworkId }, entry: KeyValue): NetworkRecord {
  const record = parseRecord(NetworkRecord, entry, { id: at.network });
  return {
    ...record,
    type: shared(record.type),
    ip_range: shared(record.ip_range),
    gateway: shared(record.gateway),
  };
}

const attributesKnown = new Map<string, NetworkAttributes>();

/** @throws ConflictError: broken. */
export function attributesAt(entry: KeyValue): NetworkAttributes {
  return once(attributesKnown, entry.value, parseRecord(NetworkAttributes, entry));
}

const texts = new Map<string, string>();

/** The same text as before where many records say the same. */
const shared = <T extends string>(text: T): T => once(texts, text, text) as T;

const ONCE_MAX = 1_000; // chosen: more than defaults and habits make

function once<T>(known: Map<string, T>, key: string, value: T): T {
  const before = known.get(key);
  if (before !== undefined) return before;
  if (known.size < ONCE_MAX) known.set(key, value);
  return value;
}

export const samePeer = (a: Peer | undefined, b: Peer | undefined) =>
  a?.address === b?.address && a?.mac === b?.mac && a?.vtep === b?.vtep && a?.hostname === b?.hostname;
