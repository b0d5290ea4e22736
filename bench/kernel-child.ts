/** Our kernel worker in a process of its own, inside a host of the lab: a number of peers in, milliseconds out. */
import { createInterface } from 'node:readline';
import { macFor } from '../ipam/range.js';
import type { InterfaceAddress, IpAddress, NetnsPath, NetworkId, Vni } from '../model/scalars.js';
import { newNetworkId } from '../model/scalars.js';
import { Kernel } from '../overlay/kernel.js';
import { packPeers } from '../overlay/peers.js';
import type { RemotePeer } from '../overlay/types.js';
import { times } from './row.js';
import { addressesOf } from './seed.js';

const [local = ''] = process.argv.slice(2);
const silent = { debug() {}, info() {}, warn: console.error, error: console.error };
const HOSTS = 50;

function peersOf(count: number): RemotePeer[] {
  const vteps = times(HOSTS).map(index => `10.79.0.${100 + index}` as IpAddress);
  return addressesOf('10.16.0.0/16', count).map((address, index) => ({
    address,
    mac: macFor(address),
    vtep: vteps[index % HOSTS] ?? ('10.79.0.100' as IpAddress),
  }));
}

const wantedOf = (id: NetworkId, netns: NetnsPath, peers: readonly RemotePeer[]) => ({
  networkId: id,
  netns,
  vni: 42 as Vni,
  port: 4789,
  udpChecksum: true,
  local: local as IpAddress,
  mtu: 1450,
  gateway: '10.16.0.1/16' as InterfaceAddress,
  dataPlane: 'bridge' as const,
  ports: [],
  leaving: [],
  peers: packPeers(peers),
});

await using kernel = await Kernel.start({ log: silent });
for await (const line of createInterface({ input: process.stdin })) {
  const peers = peersOf(Number(line));
  const id = newNetworkId();
  const netns = `/run/netns/sc-ns-${id}` as NetnsPath;
  const startedAt = performance.now();
  await kernel.reconcile(wantedOf(id, netns, peers));
  const took = performance.now() - startedAt;
  await kernel.removeNetwork(netns);
  process.stdout.write(`${took}\n`);
}
