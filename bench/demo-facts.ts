/** What the kernel of a demo host says about one network: asked with `ip` and `bridge`, not taken from the agent. */
import type { DockerHost } from '../test/support/docker-host.js';

export interface ContainerFacts {
  readonly name: string;
  readonly ifName: string;
  readonly address: string;
  readonly mac: string;
  readonly mtu: number;
}

export interface HostFacts {
  readonly hostName: string;
  readonly underlay: { readonly ifName: string; readonly address: string; readonly mtu: number };
  /** File of the overlay namespace. */
  readonly netns: string;
  readonly bridge: { readonly address: string; readonly mac: string; readonly mtu: number };
  readonly vxlan: {
    readonly vni: number;
    readonly port: number;
    readonly local: string;
    readonly learning: boolean;
    readonly mtu: number;
  };
  /** Ports of the bridge that lead to containers. */
  readonly veths: readonly string[];
  /** Remote endpoints: address → MAC. */
  readonly arp: readonly { readonly address: string; readonly mac: string }[];
  /** Remote endpoints: MAC → VTEP. */
  readonly fdb: readonly { readonly mac: string; readonly vtep: string }[];
  readonly container: ContainerFacts;
}

interface IpLink {
  readonly ifname: string;
  readonly mtu: number;
  readonly address: string;
  readonly linkinfo?: {
    readonly info_kind?: string;
    readonly info_data?: { id: number; port: number; local: string; learning?: boolean };
  };
  readonly addr_info?: readonly {
    readonly family: string;
    readonly local: string;
    readonly prefixlen: number;
  }[];
}
interface IpNeighbour {
  readonly dst: string;
  readonly lladdr?: string;
}
interface BridgeFdb {
  readonly mac: string;
  readonly dst?: string;
}

const NETNS_DIRECTORY = '/run/netns';
const NETNS_PREFIX = 'sc-ns-';

/** @throws Error when a part of the network is missing on the host. */
export async function readHost(host: DockerHost, container: string): Promise<HostFacts> {
  const [outside, names, inContainer] = await Promise.all([
    host.json<readonly IpLink[]>(['ip', '-j', 'addr', 'show', 'dev', 'eth0']),
    host.exec(['ls', NETNS_DIRECTORY]),
    readContainer(host, container),
  ]);
  const file = names.split('\n').find(name => name.startsWith(NETNS_PREFIX));
  const netns = `${NETNS_DIRECTORY}/${need(file, `an overlay namespace on ${host.name}`)}`;
  const [addresses, details, arp, fdb] = await Promise.all([
    host.json<readonly IpLink[]>(['ip', '-j', 'addr', 'show'], { netns }),
    host.json<readonly IpLink[]>(['ip', '-j', '-d', 'link', 'show'], { netns }),
    host.json<readonly IpNeighbour[]>(['ip', '-j', 'neigh', 'show', 'nud', 'permanent'], { netns }),
    host.json<readonly BridgeFdb[]>(['bridge', '-j', 'fdb', 'show', 'dev', 'vxlan0'], { netns }),
  ]);
  const eth0 = need(outside[0], `eth0 of ${host.name}`);
  const br0 = need(
    addresses.find(({ ifname }) => ifname === 'br0'),
    `br0 in ${netns}`,
  );
  const vxlan0 = need(
    details.find(({ ifname }) => ifname === 'vxlan0'),
    `vxlan0 in ${netns}`,
  );
  const vxlan = need(vxlan0.linkinfo?.info_data, `VXLAN settings of vxlan0 in ${netns}`);
  return {
    hostName: host.name,
    underlay: { ifName: eth0.ifname, address: ipv4Of(eth0), mtu: eth0.mtu },
    netns,
    bridge: { address: ipv4Of(br0), mac: br0.address, mtu: br0.mtu },
    vxlan: {
      vni: vxlan.id,
      port: vxlan.port,
      local: vxlan.local,
      learning: vxlan.learning === true,
      mtu: vxlan0.mtu,
    },
    veths: details.flatMap(({ ifname, linkinfo }) => (linkinfo?.info_kind === 'veth' ? [ifname] : [])),
    arp: (arp ?? []).flatMap(({ dst, lladdr }) => (lladdr ? [{ address: dst, mac: lladdr }] : [])),
    fdb: (fdb ?? []).flatMap(({ mac, dst }) => (dst ? [{ mac, vtep: dst }] : [])),
    container: inContainer,
  };
}

async function readContainer(host: DockerHost, name: string): Promise<ContainerFacts> {
  const pid = await host.docker('inspect', '--format', '{{.State.Pid}}', name);
  const links = await host.json<readonly IpLink[]>(['ip', '-j', 'addr', 'show'], {
    netns: `/proc/${pid}/ns/net`,
  });
  const link = need(
    links.find(({ ifname }) => ifname.startsWith('sand')),
    `an interface of SAND in ${name}`,
  );
  return { name, ifName: link.ifname, address: ipv4Of(link), mac: link.address, mtu: link.mtu };
}

function ipv4Of({ addr_info: found = [], ifname }: IpLink): string {
  const { local, prefixlen } = need(
    found.find(({ family }) => family === 'inet'),
    `an IPv4 address on ${ifname}`,
  );
  return `${local}/${prefixlen}`;
}

function need<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`The kernel does not show ${what}`);
  return value;
}
