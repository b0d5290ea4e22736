/** What the mirror keeps of one network. */
import type {
  BindingRecord,
  EndpointRecord,
  NetworkAttributes,
  NetworkRecord,
  Peer,
} from '../model/records.js';
import { addressOf, type EndpointId, type IpAddress } from '../model/scalars.js';

export interface NetworkEntry {
  record: NetworkRecord | undefined;
  createRevision: number;
  attributes: NetworkAttributes | undefined;
  readonly peers: Map<EndpointId, Peer>;
  readonly local: Map<EndpointId, EndpointRecord>;
  readonly addresses: Map<IpAddress, EndpointId>;
  readonly bindings: Map<string, BindingRecord>;
}

/** Parts of a network arrive in any order, before its record too. */
export const emptyEntry = (): NetworkEntry => ({
  record: undefined,
  createRevision: 0,
  attributes: undefined,
  peers: new Map(),
  local: new Map(),
  addresses: new Map(),
  bindings: new Map(),
});

export const peerOf = (record: EndpointRecord): Peer => ({
  endpointId: record.id,
  address: addressOf(record.target_veth_ip),
  mac: record.target_veth_mac,
  hostname: record.hostname,
  vtep: record.host_ip,
});

export const samePeer = (a: Peer | undefined, b: Peer | undefined) =>
  a?.address === b?.address && a?.mac === b?.mac && a?.vtep === b?.vtep && a?.hostname === b?.hostname;
