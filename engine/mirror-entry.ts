/** What the mirror keeps of one network. */
import {
  type BindingRecord,
  EndpointRecord,
  type NetworkAttributes,
  NetworkRecord,
  type Peer,
} from '../model/records.js';
import { addressOf, type EndpointId, type NetworkId } from '../model/scalars.js';
import type { KeyValue } from '../store/client.js';
import { parseRecord } from '../store/table.js';
import { AddressBook } from './address-book.js';

export interface NetworkEntry {
  record: NetworkRecord | undefined;
  createRevision: number;
  attributes: NetworkAttributes | undefined;
  readonly peers: Map<EndpointId, Peer>;
  readonly local: Map<EndpointId, EndpointRecord>;
  readonly addresses: AddressBook;
  readonly bindings: Map<string, BindingRecord>;
}

/** Parts of a network arrive in any order, before its record too. */
export const emptyEntry = (): NetworkEntry => ({
  record: undefined,
  createRevision: 0,
  attributes: undefined,
  peers: new Map(),
  local: new Map(),
  addresses: new AddressBook(),
  bindings: new Map(),
});

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
export const networkAt = (at: { network: NetworkId }, entry: KeyValue): NetworkRecord =>
  parseRecord(NetworkRecord, entry, { id: at.network });

export const samePeer = (a: Peer | undefined, b: Peer | undefined) =>
  a?.address === b?.address && a?.mac === b?.mac && a?.vtep === b?.vtep && a?.hostname === b?.hostname;
