/** Networks and endpoints as lines (fixed: scripts parse them) and as rows. */
import type { EndpointJson, NetworkJson } from './client.js';
import type { Cell, Output, Table } from './output.js';

export const networkLine = ({ id, name, type, vxlan_vni }: NetworkJson) =>
  `[${id}] ${name} (${type} VNI: ${vxlan_vni})`;

export const newNetworkLine = ({ id, name, type, ip_range, vxlan_vni }: NetworkJson) =>
  `* id=${id} name=${name} type=${type} ip-range=${ip_range}, vni=${vxlan_vni}`;

export const networkTable = (networks: readonly NetworkJson[]): Table => ({
  head: ['ID', 'NAME', 'VNI', 'RANGE', 'GATEWAY', 'MTU'],
  rows: networks.map(({ id, name, vxlan_vni, ip_range, gateway, mtu }) => [
    id,
    name,
    `${vxlan_vni}`,
    ip_range,
    gateway,
    `${mtu}`,
  ]),
});

export function endpointLine(endpoint: EndpointJson, output: Output): string {
  const { id, network_id, hostname, target_veth_ip: ip, target_netns_path: netns, active } = endpoint;
  const facts = `ID=${id} networkID=${network_id} hostname=${hostname} IP=${ip}`;
  return active
    ? `* ${output.paint('[ACTIVE]', 'green')}  ${facts} NS=${netns}`
    : `* ${output.paint('[PASSIVE]', 'yellow')} ${facts}`;
}

export const stateCell = ({ active }: EndpointJson): Cell =>
  active ? ['ACTIVE', 'green'] : ['PASSIVE', 'yellow'];

export const endpointTable = (endpoints: readonly EndpointJson[]): Table => ({
  head: ['ID', 'NETWORK', 'HOST', 'STATE', 'IP', 'MAC', 'INTERFACE', 'NS'],
  rows: endpoints.map(endpoint => [
    endpoint.id,
    endpoint.network_id,
    endpoint.hostname,
    stateCell(endpoint),
    endpoint.target_veth_ip,
    endpoint.target_veth_mac,
    endpoint.target_veth_name,
    endpoint.target_netns_path,
  ]),
});

/** What was deleted, endpoints before their network. */
export const goneTable = (endpoints: readonly string[], network?: string): Table => ({
  head: ['DELETED', 'ID'],
  rows: [...endpoints.map(id => ['endpoint', id]), ...(network ? [['network', network]] : [])],
});
