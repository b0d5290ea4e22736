/** What a host's kernel must have of the networks, by iproute2's eyes; in words where it has not. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './command.js';
import { bare, type EndpointTruth, type NetworkTruth, type Truth } from './invariants-truth.js';
import type { FdbJson, LinkJson, NeighbourJson } from './netns.js';

export interface CheckedHost {
  readonly name: string;
  readonly vtep: string;
  /** Command words before a program that is to run in the host's network namespace (and mount namespace, if it has one). */
  readonly enter: readonly string[];
  /** Directory of the overlay namespaces' files, as this process sees it. */
  readonly netnsPath: string;
  /** As the host sees it; default: the same. */
  readonly netnsPathInside?: string;
  /** Default `/proc/self/mountinfo`. */
  readonly mountinfo?: string;
}

type Shown = LinkJson & { readonly group?: string };
interface Seen {
  readonly links: readonly Shown[];
  readonly addresses: readonly { readonly ifname: string; readonly addr_info: readonly AddressJson[] }[];
  readonly neighbours: readonly (NeighbourJson & { readonly dev: string })[];
  readonly fdb: readonly FdbJson[];
}
interface AddressJson {
  readonly family: string;
  readonly local: string;
  readonly prefixlen: number;
}

const PREFIX = 'sc-ns-';
const LOOK =
  'ip -j -d link; echo; ip -j -4 addr; echo; ip -j neigh show nud permanent; echo; bridge -j fdb show; echo';

/** A namespace in one call; undefined when the file is none. */
async function look(enter: readonly string[]): Promise<Seen | undefined> {
  const { stdout, status } = await run([...enter, 'sh', '-c', LOOK]);
  if (status !== 0) return undefined;
  const [links = [], addresses = [], neighbours = [], fdb = []] = stdout
    .split(/\n\n/)
    .map(part => (part.trim() === '' ? [] : JSON.parse(part)));
  return { links, addresses, neighbours, fdb };
}

const inside = (host: CheckedHost, path: string) => [...host.enter, 'nsenter', `--net=${path}`, '--'];

/** @param joinedMs how long one of Docker's endpoints may be without an interface */
export async function kernelViolations(truth: Truth, host: CheckedHost, joinedMs: number): Promise<string[]> {
  const found = [...(await fileViolations(truth, host)), ...(await hostViolations(truth, host, joinedMs))];
  for (const network of truth.networks.values()) {
    const local = localOf(truth, host, network.id);
    const path = join(host.netnsPathInside ?? host.netnsPath, `${PREFIX}${network.id}`);
    const there = local.length > 0 ? await look(inside(host, path)) : undefined;
    if (there) {
      const elsewhere = hasMacvlans(truth, network) ? await lookElsewhere(host, local) : undefined;
      found.push(...overlayViolations(truth, { host, network, local, elsewhere }, there));
    } else if (local.some(isPlaced)) found.push(`no namespace of network ${network.id}`);
    if (!hasMacvlans(truth, network))
      found.push(...local.flatMap(endpoint => neverJoined(endpoint, there, joinedMs)));
    for (const endpoint of local)
      if (!endpoint.docker) found.push(...(await targetViolations(host, endpoint)));
  }
  return found.map(text => `${host.name}: ${text}`);
}

const localOf = (truth: Truth, host: CheckedHost, network: string) =>
  truth.endpointsOf(network).filter(({ hostname, active }) => hostname === host.name && active);

/** Docker's are active from their creation on; their interface comes with the join. */
const isPlaced = ({ docker, target_netns_path }: EndpointTruth) => !docker || target_netns_path !== '';

function neverJoined(endpoint: EndpointTruth, there: Seen | undefined, joinedMs: number): string[] {
  const { id, overlay_veth_name: name } = endpoint;
  const hasPort = there?.links.some(({ ifname }) => ifname === name);
  return isPlaced(endpoint) || isYoung(endpoint, joinedMs) || hasPort
    ? []
    : [`endpoint ${id} was never joined`];
}

const isYoung = ({ created_at }: EndpointTruth, joinedMs: number) =>
  Date.now() - Date.parse(created_at) <= joinedMs;

/** Files and mounts of namespaces: one of each where the host has an active endpoint, and none else. */
async function fileViolations(truth: Truth, host: CheckedHost): Promise<string[]> {
  const files = (await readdir(host.netnsPath).catch(() => [])).filter(name => name.startsWith(PREFIX));
  const directory = host.netnsPathInside ?? host.netnsPath;
  const mounts = (await readFile(host.mountinfo ?? '/proc/self/mountinfo', 'utf8'))
    .split('\n')
    .map(line => line.split(' ')[4] ?? '')
    .filter(path => path.startsWith(`${directory}/${PREFIX}`))
    .map(path => path.slice(directory.length + 1));
  const wanted = (name: string) => localOf(truth, host, name.slice(PREFIX.length)).length > 0;
  return [
    ...files.filter(name => !wanted(name)).map(name => `${name} is a namespace without an active endpoint`),
    ...files.filter(name => !mounts.includes(name)).map(name => `${name} is a file without a namespace`),
    ...mounts.filter(name => !files.includes(name)).map(name => `${name} is mounted without a file`),
    ...[...new Set(mounts)]
      .filter(name => mounts.filter(each => each === name).length > 1)
      .map(name => `${name} is mounted more than once`),
  ];
}

/** Nothing of ours in the host's own namespace but what Docker is about to move. */
async function hostViolations(truth: Truth, host: CheckedHost, joinedMs: number): Promise<string[]> {
  const there = await look(host.enter);
  if (!there) return ['its namespace cannot be entered'];
  const waiting = truth.endpoints
    .filter(({ hostname, docker }) => hostname === host.name && docker)
    .filter(endpoint => isYoung(endpoint, joinedMs))
    .map(({ target_veth_name }) => target_veth_name);
  return there.links
    .filter(({ ifname, linkinfo }) => ifname.startsWith('sand') || linkinfo?.info_kind === 'vxlan')
    .filter(({ ifname }) => !waiting.includes(ifname))
    .map(({ ifname }) => `${ifname} is left in the host's namespace`);
}

interface Overlay {
  readonly host: CheckedHost;
  readonly network: NetworkTruth;
  readonly local: readonly EndpointTruth[];
  /** Of a network of macvlans: interfaces of each endpoint's namespace; undefined: of a bridge. */
  readonly elsewhere: ReadonlyMap<EndpointTruth, readonly Shown[]> | undefined;
}

const hasMacvlans = (truth: Truth, { id }: NetworkTruth) => truth.attributesOf(id)?.dataplane === 'macvlan';

async function lookElsewhere(host: CheckedHost, local: readonly EndpointTruth[]) {
  const seen = new Map<EndpointTruth, readonly Shown[]>();
  for (const endpoint of local) {
    const { target_netns_path: path } = endpoint;
    if (path !== '') seen.set(endpoint, (await look(inside(host, path)))?.links ?? []);
  }
  return seen;
}

function overlayViolations(truth: Truth, overlay: Overlay, there: Seen): string[] {
  const found = [
    ...deviceViolations(truth, overlay, there),
    ...(overlay.elsewhere ? macvlanViolations(overlay.elsewhere) : portViolations(overlay, there)),
    ...peerViolations(truth, overlay, there),
  ];
  return found.map(text => `network ${overlay.network.id}: ${text}`);
}

/** Gateway and VXLAN. */
function deviceViolations(
  truth: Truth,
  { host, network, elsewhere }: Overlay,
  { links, addresses }: Seen,
): string[] {
  const [name, kind] = elsewhere ? ['gateway0', 'macvlan'] : ['br0', 'bridge'];
  const mtu = truth.attributesOf(network.id)?.mtu ?? 1450;
  const [bridge, vxlan] = [name, 'vxlan0'].map(each => links.find(({ ifname }) => ifname === each));
  const bears = addresses.find(({ ifname }) => ifname === name)?.addr_info ?? [];
  const data = vxlan?.linkinfo?.info_data ?? {};
  const facts: readonly (readonly [string, unknown, unknown])[] = [
    [`kind of ${name}`, bridge?.linkinfo?.info_kind, kind],
    [`MTU of ${name}`, bridge?.mtu, mtu],
    [`${name} up`, bridge?.flags.includes('UP'), true],
    ['gateway', bears.map(({ local, prefixlen }) => `${local}/${prefixlen}`).join(), network.gateway],
    ['kind of vxlan0', vxlan?.linkinfo?.info_kind, 'vxlan'],
    ['MTU of vxlan0', vxlan?.mtu, mtu],
    ['vxlan0 up', vxlan?.flags.includes('UP'), true],
    ['master of vxlan0', vxlan?.master, elsewhere ? undefined : name],
    ['VNI', data['id'], network.vxlan_vni],
    ['local address', data['local'], host.vtep],
    ['learning', data['learning'], false],
  ];
  return facts.flatMap(([what, is, wanted]) => (is === wanted ? [] : [`${what} is ${is}, not ${wanted}`]));
}

/** One port for each active endpoint, with its MAC and the container's static entry, and none else. */
function portViolations({ local }: Overlay, { links, fdb }: Seen): string[] {
  const found: string[] = [];
  const veths = new Map(
    links.flatMap(link => (link.linkinfo?.info_kind === 'veth' ? [[link.ifname, link] as const] : [])),
  );
  for (const endpoint of local) {
    const { id, overlay_veth_name: name, overlay_veth_mac: mac, target_veth_mac: target } = endpoint;
    const port = veths.get(name);
    veths.delete(name);
    if (!port && !isPlaced(endpoint)) continue;
    if (!port) found.push(`port ${name} of endpoint ${id} is missing`);
    else if (port.master !== 'br0' || !port.flags.includes('UP'))
      found.push(`port ${name} of endpoint ${id} is off`);
    else if (port.address !== mac) found.push(`port ${name} has the MAC ${port.address}, not ${mac}`);
    const isStatic = fdb.some(each => each.ifname === name && each.mac === target && each.state === 'static');
    if (port && !isStatic) found.push(`port ${name} has no static entry of ${target}`);
  }
  return [...found, ...[...veths.keys()].map(name => `port ${name} is of no endpoint`)];
}

/** One macvlan for each active endpoint that is in its namespace, with its MAC and its port's name as alias. */
function macvlanViolations(elsewhere: ReadonlyMap<EndpointTruth, readonly Shown[]>): string[] {
  return [...elsewhere].flatMap(([{ id, target_veth_mac: mac, overlay_veth_name: name }, links]) => {
    const found = links.filter(
      ({ address, linkinfo }) => address === mac && linkinfo?.info_kind === 'macvlan',
    );
    if (found.length !== 1) return [`port ${name} of endpoint ${id}: ${found.length} macvlans, not one`];
    return found[0]?.ifalias === name ? [] : [`port ${name} of endpoint ${id} has no alias`];
  });
}

/** One ARP and one FDB entry for each endpoint of another host, and none else. */
function peerViolations(truth: Truth, { host, network }: Overlay, { neighbours, fdb }: Seen): string[] {
  const remote = truth.endpointsOf(network.id).filter(({ hostname }) => hostname !== host.name);
  const arp = neighbours
    .filter(({ dev }) => dev === 'vxlan0')
    .map(({ dst, lladdr }) => `${dst} at ${lladdr}`);
  const to = fdb.flatMap(({ ifname, mac, dst }) => (ifname === 'vxlan0' && dst ? [`${mac} via ${dst}`] : []));
  return [
    ...differences(
      'ARP',
      arp,
      remote.map(each => `${bare(each.target_veth_ip)} at ${each.target_veth_mac}`),
    ),
    ...differences(
      'FDB',
      to,
      remote.map(each => `${each.target_veth_mac} via ${each.host_ip}`),
    ),
  ];
}

const differences = (table: string, found: readonly string[], wanted: readonly string[]) => [
  ...wanted.filter(each => !found.includes(each)).map(each => `${table} entry ${each} is missing`),
  ...found.filter(each => !wanted.includes(each)).map(each => `${table} entry ${each} is of no endpoint`),
];

/** The interface that an endpoint of the API has in its namespace. */
async function targetViolations(host: CheckedHost, endpoint: EndpointTruth): Promise<string[]> {
  const { id, target_netns_path: path, target_veth_name: name, target_veth_ip, target_veth_mac } = endpoint;
  const there = await look(inside(host, path));
  const link = there?.links.find(({ ifname }) => ifname === name);
  if (!link) return [`endpoint ${id} has no interface ${name} in ${path}`];
  const bears = there?.addresses.find(({ ifname }) => ifname === name)?.addr_info ?? [];
  const addresses = bears.map(({ local, prefixlen }) => `${local}/${prefixlen}`);
  if (link.address !== target_veth_mac)
    return [`endpoint ${id} has the MAC ${link.address}, not ${target_veth_mac}`];
  if (!link.flags.includes('UP')) return [`endpoint ${id} is down`];
  return addresses.includes(target_veth_ip)
    ? []
    : [`endpoint ${id} has ${addresses.join()}, not ${target_veth_ip}`];
}
