/** What the kernel of this host should have of a network: a pure function of the mirror. */
import { dataPlaneOf, type EndpointRecord, mtuOf, type Network, type Peer } from '../model/records.js';
import type { HostName, IfName, NetnsPath, NetworkId } from '../model/scalars.js';
import type { RemotePeer, WantedNetwork, WantedPort } from '../overlay/types.js';
import { type HostSettings, netnsOf, overlayVethOf, targetVethOf } from './host.js';

/** The veth pair of an endpoint; names of older records are kept, ours follow from the id. */
export function portOf(record: EndpointRecord): WantedPort {
  const overlayVeth = (record.overlay_veth_name || overlayVethOf(record.id)) as WantedPort['overlayVeth'];
  return {
    endpointId: record.id,
    overlayVeth,
    overlayMac: record.overlay_veth_mac || undefined,
    targetMac: record.target_veth_mac,
    target: record.docker
      ? {
          kind: 'host',
          name: (record.target_veth_name || targetVethOf(record.id)) as IfName,
          sandbox: (record.target_netns_path as NetnsPath) || undefined,
        }
      : {
          kind: 'netns',
          path: record.target_netns_path as NetnsPath,
          name: record.target_veth_name === '' ? undefined : (record.target_veth_name as IfName),
          address: record.target_veth_ip,
        },
  };
}

export const remotePeersOf = (peers: Iterable<Peer>, host: HostName): RemotePeer[] => {
  const remote: RemotePeer[] = [];
  for (const { hostname, address, mac, vtep } of peers) {
    if (hostname !== host) remote.push({ address, mac, vtep });
  }
  return remote;
};

/** Undefined when no port is wanted: then the host has no trace of the network. */
export function wantedNetwork(
  host: HostSettings,
  network: Network,
  parts: Pick<WantedNetwork, 'ports' | 'leaving' | 'peers'>,
): WantedNetwork | undefined {
  const { ports, leaving, peers } = parts;
  if (ports.length === 0) return undefined;
  const { record } = network;
  return {
    networkId: record.id as NetworkId,
    netns: netnsOf(host, record.id),
    vni: record.vxlan_vni,
    port: host.vxlanPort,
    udpChecksum: host.vxlanChecksum,
    local: host.vtep,
    mtu: mtuOf(network),
    dataPlane: dataPlaneOf(network),
    gateway: record.gateway,
    ports,
    leaving,
    peers,
  };
}
