/** Ways between two containers, on two hosts and on one: through SAND, through a hand-made overlay, and bare. */
import type { HostNamespaces } from '../test/support/host-namespaces.js';
import type { BenchAgent, BenchHost, BenchLab } from './lab.js';
import type { Endpoint } from './plugin-client.js';

export type Place = 'across hosts' | 'on one host';

export interface Path {
  readonly place: Place;
  readonly client: Spot;
  readonly server: Spot;
  /** The server's, as the client reaches it. */
  readonly address: string;
}

export interface Spot {
  readonly namespaces: HostNamespaces;
  /** As the host sees it; undefined: the host's own. */
  readonly netns: string | undefined;
}

/** Client and server on the first host, a server on the second. */
const SPOTS = [
  { name: 'client', host: 0 },
  { name: 'near', host: 0 },
  { name: 'far', host: 1 },
] as const;

const VXLAN_OVERHEAD = 50;
const NF_CALLS = ['iptables', 'ip6tables', 'arptables'];

const named = (name: string) => `/run/netns/${name}`;

function pathsOf(lab: BenchLab, prefix: string, [near = '', far = '']: readonly string[]): Path[] {
  const spot = (host: number, name: string) => ({
    namespaces: lab.host(host).namespaces,
    netns: named(`${prefix}-${name}`),
  });
  const client = spot(0, 'client');
  return [
    { place: 'across hosts', client, server: spot(1, 'far'), address: far },
    { place: 'on one host', client, server: spot(0, 'near'), address: near },
  ];
}

/** One of our networks; `options` as `docker network create --opt` has them. */
export async function sandPaths(
  lab: BenchLab,
  agents: readonly BenchAgent[],
  network: { readonly name: string; readonly options: Readonly<Record<string, string>> },
): Promise<Path[]> {
  const { name, options } = network;
  const ids: string[] = [];
  for (const { plugin } of agents) ids.push(await plugin.createNetwork({ 'sand-name': name, ...options }));
  const addresses: string[] = [];
  for (const spot of SPOTS) {
    const netns = `${name}-${spot.name}`;
    await lab.host(spot.host).namespaces.exec(['ip', 'netns', 'add', netns]);
    // A macvlan is found again by its sandbox: of one that is not there the endpoint would be removed.
    const endpoint = await agents[spot.host]?.plugin.attach(ids[spot.host] ?? '', named(netns));
    if (!endpoint) throw new Error(`No agent on host ${spot.host}`);
    await moveIn(lab.host(spot.host), netns, endpoint);
    addresses.push(endpoint.address.split('/')[0] ?? '');
  }
  return pathsOf(lab, name, addresses.slice(1));
}

/** What libnetwork does after Join. */
async function moveIn(
  { namespaces }: BenchHost,
  netns: string,
  { ifName, address, mac }: Endpoint,
): Promise<void> {
  await namespaces.exec(['ip', 'link', 'set', ifName, 'netns', netns, 'name', 'sand0']);
  const settings = ['link set lo up', `link set sand0 address ${mac}`, `addr add ${address} dev sand0`];
  await batch(namespaces, netns, [...settings, 'link set sand0 up']);
}

/** The same by hand: VNI and addresses of its own, same MTU, checksums as ours, no packet filter on the bridge. */
export async function handMadePaths(lab: BenchLab, underlayMtu: number): Promise<Path[]> {
  const prefix = 'handmade';
  const overlay = `${prefix}-overlay`;
  const mtu = underlayMtu - VXLAN_OVERHEAD;
  for (const { namespaces, address } of lab.hosts) {
    const vxlan = `vxlan0 mtu ${mtu} type vxlan id 4242 local ${address} dstport 4789 nolearning proxy udpcsum`;
    await namespaces.exec(['ip', 'netns', 'add', overlay]);
    await namespaces.exec(['ip', 'link', 'add', ...vxlan.split(' ')]);
    await namespaces.exec(['ip', 'link', 'set', 'vxlan0', 'netns', overlay]);
    const links = [`link add br0 mtu ${mtu} type bridge`, 'link set vxlan0 master br0 up', 'link set br0 up'];
    await batch(namespaces, overlay, ['link set lo up', ...links]);
    for (const table of NF_CALLS) {
      const setting = `/proc/sys/net/bridge/bridge-nf-call-${table}`;
      await namespaces.run(['tee', setting], { netns: named(overlay), input: '0' });
    }
  }
  const addressOf = (index: number) => `10.90.0.${index + 2}`;
  for (const [index, spot] of SPOTS.entries()) {
    const mac = `02:90:00:00:00:0${index + 2}`;
    const { namespaces, address } = lab.host(spot.host);
    const netns = `${prefix}-${spot.name}`;
    await namespaces.exec(['ip', 'netns', 'add', netns]);
    await batch(namespaces, overlay, [
      `link add v-${spot.name} mtu ${mtu} type veth peer name sand0 address ${mac} mtu ${mtu} netns ${netns}`,
      `link set v-${spot.name} master br0 up`,
    ]);
    await batch(namespaces, netns, [
      'link set lo up',
      `addr add ${addressOf(index)}/24 dev sand0`,
      'link set sand0 up',
    ]);
    const other = lab.host(1 - spot.host).namespaces;
    const neighbour = `neigh replace ${addressOf(index)} lladdr ${mac} dev vxlan0 nud permanent`;
    await batch(other, overlay, [neighbour]);
    const entry = `bridge fdb replace ${mac} dev vxlan0 dst ${address} self permanent`;
    await other.exec(entry.split(' '), { netns: named(overlay) });
  }
  return pathsOf(lab, prefix, [addressOf(1), addressOf(2)]);
}

/** Nothing but the underlay across hosts, and one veth pair on a host. */
export async function barePaths(lab: BenchLab, underlayMtu: number): Promise<Path[]> {
  const [first, second] = [lab.host(0), lab.host(1)];
  const mtu = underlayMtu - VXLAN_OVERHEAD;
  const [client, near] = ['bare-client', 'bare-near'];
  for (const netns of [client, near]) await first.namespaces.exec(['ip', 'netns', 'add', netns]);
  const pair = `link add eth0 mtu ${mtu} netns ${client} type veth peer name eth0 mtu ${mtu} netns ${near}`;
  await first.namespaces.exec(['ip', ...pair.split(' ')]);
  for (const [index, netns] of [client, near].entries()) {
    const up = ['link set lo up', `addr add 10.91.0.${index + 1}/24 dev eth0`, 'link set eth0 up'];
    await batch(first.namespaces, netns, up);
  }
  const own = ({ namespaces }: BenchHost) => ({ namespaces, netns: undefined });
  const inside = (netns: string) => ({ namespaces: first.namespaces, netns: named(netns) });
  return [
    { place: 'across hosts', client: own(first), server: own(second), address: second.address },
    { place: 'on one host', client: inside(client), server: inside(near), address: '10.91.0.2' },
  ];
}

async function batch(namespaces: HostNamespaces, netns: string, lines: readonly string[]): Promise<void> {
  await namespaces.exec(['ip', '-n', netns, '-batch', '-'], { input: lines.join('\n') });
}
