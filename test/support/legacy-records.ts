/** Records as agents of the original write them, with a key that nobody knows. */
import { randomUUID } from 'node:crypto';

export interface LegacyNetwork {
  readonly id: string;
  readonly ns_handle_path: string;
  readonly vxlan_vni: number;
  readonly ip_range: string;
  readonly gateway: string;
}

export interface LegacyEndpoint {
  readonly id: string;
  readonly network_id: string;
  readonly hostname: string;
  readonly host_ip: string;
  readonly target_netns_path: string;
  readonly overlay_veth_name: string;
  readonly overlay_veth_mac: string;
  readonly target_veth_name: string;
  readonly target_veth_mac: string;
  readonly target_veth_ip: string;
  readonly active: boolean;
}

/** A network's record in etcd. */
export const legacyNetwork = (id: string, vni: number, fields: object = {}) =>
  JSON.stringify({
    id,
    created_at: '2020-01-01T00:00:00.123456789Z',
    name: `net-sc-${id}`,
    type: 'overlay',
    ns_handle_path: `/var/run/netns/sc-ns-${id}`,
    vxlan_vni: vni,
    ip_range: '10.0.0.0/24',
    gateway: '10.0.0.1/24',
    unknown_to_us: true,
    ...fields,
  });

/** An endpoint that is not active yet. */
export function legacyEndpoint(
  network: string,
  host: { readonly hostname: string; readonly ip: string },
  address: string,
): LegacyEndpoint {
  const record = {
    id: randomUUID(),
    network_id: network,
    hostname: host.hostname,
    host_ip: host.ip,
    api_hostname: '',
    created_at: new Date().toISOString().replace('Z', '123456Z'),
    target_netns_path: '',
    overlay_veth_name: '',
    overlay_veth_mac: '',
    target_veth_name: '',
    target_veth_mac: macOf(address.split('/')[0] ?? ''),
    target_veth_ip: address,
    active: false,
    unknown_to_us: { whatever: 1 },
  };
  return record;
}

/** `10.0.0.2` → `02:84:0a:00:00:02`. */
export const macOf = (address: string) =>
  ['02', '84', ...address.split('.').map(byte => Number(byte).toString(16).padStart(2, '0'))].join(':');
