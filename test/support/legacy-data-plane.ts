/**
 * The kernel objects of the original's agent, built in its order and under its names with iproute2. Runs inside the
 * host: its namespaces are the process's own.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { json, ok, run } from './command.js';
import type { LegacyEndpoint, LegacyNetwork } from './legacy-records.js';

const MTU = 1450;

interface Link {
  readonly ifname: string;
  readonly address: string;
}

/** Where the original keeps a network, in the words of `ip -n`. */
export const overlayOf = (network: string) => `sc-ns-${network}`;
const fileOf = (network: string) => `/var/run/netns/${overlayOf(network)}`;

const batch = (netns: string | undefined, ...lines: readonly string[]) =>
  ok(['ip', ...(netns === undefined ? [] : ['-n', netns]), '-batch', '-'], { input: lines.join('\n') });

const linksIn = async (path: string) =>
  (await json<Link[]>(['nsenter', `--net=${path}`, '--', 'ip', '-j', 'link', 'show'])) ?? [];

export const isSetUp = (network: string) => existsSync(fileOf(network));

/** Makes what lacks of namespace, bridge and VXLAN; what there is under its name is kept. */
export async function ensureNetwork({ id, gateway, vxlan_vni }: LegacyNetwork): Promise<void> {
  const netns = overlayOf(id);
  if (!isSetUp(id)) await ok(['ip', 'netns', 'add', netns]);
  const names = new Set((await linksIn(fileOf(id))).map(({ ifname }) => ifname));
  if (!names.has('br0')) {
    await batch(netns, 'link add br0 type bridge', `address add ${gateway} dev br0`);
    await batch(netns, 'link set lo up', 'link set br0 up');
  }
  if (names.has('vxlan0')) return;
  const name = `vxlan-${randomInt(10_000, 99_999)}`;
  const type = `type vxlan id ${vxlan_vni} dstport 4789 learning proxy l2miss l3miss`;
  await batch(undefined, `link add ${name} mtu ${MTU} ${type}`, `link set ${name} netns ${netns}`);
  await batch(netns, `link set ${name} name vxlan0`, 'link set vxlan0 master br0', 'link set vxlan0 up');
}

export async function removeNetwork(id: string): Promise<void> {
  if (isSetUp(id)) await ok(['ip', 'netns', 'delete', overlayOf(id)]);
}

export type Names = Pick<LegacyEndpoint, 'overlay_veth_name' | 'overlay_veth_mac' | 'target_veth_name'>;

/** A pair made in the host's namespace; one end goes to the overlay, the other stays, down, with the endpoint's MAC. */
export async function makePair({ network_id, target_veth_mac }: LegacyEndpoint): Promise<Names> {
  const netns = overlayOf(network_id);
  const [overlay, target] = [vethName(), vethName()];
  await batch(
    undefined,
    `link add ${overlay} type veth peer name ${target}`,
    `link set ${overlay} netns ${netns}`,
    `link set ${target} address ${target_veth_mac} mtu ${MTU}`,
  );
  await batch(
    netns,
    `link set ${overlay} mtu ${MTU}`,
    `link set ${overlay} master br0`,
    `link set ${overlay} up`,
  );
  const near = (await linksIn(fileOf(network_id))).find(({ ifname }) => ifname === overlay);
  return { overlay_veth_name: overlay, overlay_veth_mac: near?.address ?? '', target_veth_name: target };
}

/** Moves the target's end into its namespace, under its own name, and addresses it. */
export async function moveTarget(
  name: string,
  { target_netns_path, target_veth_ip }: LegacyEndpoint,
): Promise<void> {
  await ok(['ip', 'link', 'set', name, 'netns', target_netns_path]);
  const lines = [`link set ${name} mtu ${MTU} up`, `address add ${target_veth_ip} dev ${name}`];
  await ok(['nsenter', `--net=${target_netns_path}`, '--', 'ip', '-batch', '-'], { input: lines.join('\n') });
}

/** Whether both ends are there: the overlay's by its name, the target's by its MAC, whatever its name is by now. */
export async function isPlugged(record: LegacyEndpoint): Promise<boolean> {
  const near = await linksIn(fileOf(record.network_id));
  const far = await linksIn(record.target_netns_path);
  return (
    near.some(({ ifname }) => ifname === record.overlay_veth_name) &&
    far.some(({ address }) => address === record.target_veth_mac.toLowerCase())
  );
}

export async function removePair({ network_id, overlay_veth_name }: LegacyEndpoint): Promise<void> {
  if (isSetUp(network_id))
    await run(['ip', '-n', overlayOf(network_id), 'link', 'delete', overlay_veth_name]);
}

/** A permanent ARP and a permanent FDB entry. */
export async function setPeer({
  network_id,
  target_veth_ip,
  target_veth_mac,
  host_ip,
}: LegacyEndpoint): Promise<void> {
  const netns = overlayOf(network_id);
  const address = target_veth_ip.split('/')[0];
  await batch(netns, `neigh replace ${address} lladdr ${target_veth_mac} dev vxlan0 nud permanent`);
  const entry = ['fdb', 'replace', target_veth_mac, 'dev', 'vxlan0', 'dst', host_ip, 'self', 'permanent'];
  await ok(['bridge', '-n', netns, ...entry]);
}

export async function removePeer(record: LegacyEndpoint): Promise<void> {
  const { network_id, target_veth_ip, target_veth_mac, host_ip } = record;
  const netns = overlayOf(network_id);
  const address = target_veth_ip.split('/')[0] ?? '';
  await run(['ip', '-n', netns, 'neigh', 'delete', address, 'dev', 'vxlan0']);
  await run([
    'bridge',
    '-n',
    netns,
    'fdb',
    'delete',
    target_veth_mac,
    'dev',
    'vxlan0',
    'dst',
    host_ip,
    'self',
  ]);
}

const vethName = () => `sand${randomBytes(2).toString('hex')}`;
