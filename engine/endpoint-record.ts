/** An endpoint's record, and the keys it stands under. Pure. */
import { macFor, parseRange, withPrefix } from '../ipam/range.js';
import type { AddressSource, EndpointRecord, NetworkRecord } from '../model/records.js';
import type { EndpointId, IfName, IpAddress, MacAddress, NetnsPath, NetworkId } from '../model/scalars.js';
import type { BarePort } from '../overlay/types.js';
import type { Keys } from '../store/keys.js';
import type { Write } from '../store/transaction.js';
import { type HostSettings, overlayMacOf, overlayVethOf, targetVethOf } from './host.js';

export interface EndpointWish {
  readonly id: EndpointId;
  readonly networkId: NetworkId;
  /** Undefined: the lowest free one. */
  readonly address: IpAddress | undefined;
  /** Undefined: it follows from the address. */
  readonly mac: MacAddress | undefined;
  readonly purpose: Purpose;
}

/** What an endpoint is for. */
export type Purpose =
  /** Docker places its interface; `source` says how Docker came to its address. */
  | {
      readonly kind: 'docker';
      readonly endpointId: string;
      readonly networkId: string;
      readonly source: AddressSource;
    }
  /** The interface is to be `ifName` in the namespace at `netns`. */
  | { readonly kind: 'netns'; readonly netns: NetnsPath; readonly ifName: IfName }
  /** An address alone. */
  | { readonly kind: 'passive' };

/** The record that says what the kernel is asked for, before any of it carries packets. */
export function endpointRecord(
  host: HostSettings,
  network: NetworkRecord,
  wish: EndpointWish,
  address: IpAddress,
): EndpointRecord {
  const { id, purpose } = wish;
  return {
    id,
    network_id: wish.networkId,
    hostname: host.name,
    host_ip: host.vtep,
    api_hostname: host.apiHostname,
    created_at: new Date().toISOString(),
    target_netns_path: purpose.kind === 'netns' ? purpose.netns : '',
    overlay_veth_name: overlayVethOf(id),
    overlay_veth_mac: overlayMacOf(id),
    target_veth_name: interfaceName(wish),
    target_veth_mac: wish.mac ?? macFor(address),
    target_veth_ip: withPrefix(parseRange(network.ip_range), address),
    active: purpose.kind !== 'passive',
    ...(purpose.kind === 'docker' ? { docker: dockerPart(purpose) } : {}),
  };
}

function interfaceName({ id, purpose }: EndpointWish): IfName | '' {
  if (purpose.kind === 'passive') return '';
  return purpose.kind === 'netns' ? purpose.ifName : targetVethOf(id);
}

const dockerPart = ({ endpointId, networkId, source }: Extract<Purpose, { kind: 'docker' }>) => ({
  endpoint_id: endpointId,
  network_id: networkId,
  address_source: source,
});

/**
 * What can be made of the endpoint's interface before it has its address; undefined: nothing. In a container nothing is
 * made for an address that may be refused.
 */
export function barePort({ id, address, mac, purpose }: EndpointWish): BarePort | undefined {
  const overlayMac = overlayMacOf(id);
  const targetMac = mac ?? (address && macFor(address)) ?? overlayMac;
  const ends = { endpointId: id, overlayVeth: overlayVethOf(id), overlayMac, targetMac };
  if (purpose.kind === 'docker') {
    return { ...ends, target: { kind: 'host', name: targetVethOf(id), sandbox: undefined } };
  }
  if (purpose.kind === 'passive' || address !== undefined) return undefined;
  return { ...ends, target: { kind: 'netns', path: purpose.netns, name: purpose.ifName } };
}

/** What a change of an endpoint's record writes. */
export const recordWrites = (keys: Keys, record: EndpointRecord): Write[] => [
  { put: keys.networkEndpoint(record.network_id, record.id), value: record },
  { put: keys.nodeEndpoint(record.hostname, record.id), value: record },
];

/** What an endpoint's creation writes. */
export function creationWrites(keys: Keys, record: EndpointRecord): Write[] {
  const { docker } = record;
  if (!docker) return recordWrites(keys, record);
  const value = {
    DockerNetworkID: docker.network_id,
    SandNetworkID: record.network_id,
    DockerEndpointID: docker.endpoint_id,
    SandEndpointID: record.id,
  };
  return [...recordWrites(keys, record), { put: keys.dockerEndpoint(docker.endpoint_id), value }];
}

/** What its end deletes. */
export const deletionWrites = (keys: Keys, record: EndpointRecord): Write[] => [
  { delete: keys.networkEndpoint(record.network_id, record.id) },
  { delete: keys.nodeEndpoint(record.hostname, record.id) },
  ...(record.docker ? [{ delete: keys.dockerEndpoint(record.docker.endpoint_id) }] : []),
];
