/**
 * Every key of a cluster is written and parsed here, and nowhere else.
 *
 * Families that existing agents share with us: `network`, `network-endpoints`, `node-endpoints`, `nodes`,
 * `nodes-networks`, `ipalloc`, `docker-networks`, `docker-endpoints`. Families of our own, which they never list:
 * `network.attributes`, `network.bindings`, `network.hosts`, `network.presence`, `address-owners`, `address-spares`,
 * `vnis`, `names`. Some of ours begin with `network.` so that one watch from `/network` on covers all that the mirror
 * follows and nothing else.
 */
import {
  type EndpointId,
  type HostName,
  type IpAddress,
  isHostName,
  isNetworkId,
  type NetworkId,
  type Vni,
} from '../model/scalars.js';

/** The first key after every key that begins with `prefix`. */
export function endOfPrefix(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  end.writeUInt8(end.readUInt8(end.length - 1) + 1, end.length - 1);
  return end;
}

/** Where a large family is cut that has random ids next: into pieces of one size. */
export const cutsBelow = (prefix: string): string[] =>
  Array.from({ length: 15 }, (_, n) => prefix + (n + 1).toString(16));

// Locks of existing agents stand outside the cluster's prefix.
/** Whoever has the oldest key in here may change the pool of the network. */
export const poolLockRange = (network: NetworkId) => `/etcd-lock/ipalloc-lock/${network}/`;
/** Whoever has the oldest key in here may choose a VNI. */
export const VNI_LOCK_RANGE = '/etcd-lock/vni-idgen/';

/** A host's record, or its presence. */
export interface HostKey {
  readonly family: 'host' | 'presence';
  readonly hostname: HostName;
}

export type FollowedKey =
  | HostKey
  | { readonly family: 'network'; readonly network: NetworkId }
  | { readonly family: 'attributes'; readonly network: NetworkId }
  | { readonly family: 'endpoint'; readonly network: NetworkId; readonly endpoint: EndpointId }
  | { readonly family: 'binding'; readonly network: NetworkId; readonly dockerNetwork: string };

const HOST_FAMILIES: ReadonlyMap<string | undefined, HostKey['family']> = new Map([
  ['network.hosts', 'host'],
  ['network.presence', 'presence'],
]);

export class Keys {
  /** `prefix`: such as `/sc-net`, without a slash at its end. */
  constructor(readonly prefix: string) {}

  network = (id: NetworkId) => `${this.prefix}/network/${id}`;
  attributes = (id: NetworkId) => `${this.prefix}/network.attributes/${id}`;
  pool = (id: NetworkId) => `${this.prefix}/ipalloc/${id}`;

  networkEndpoint = (network: NetworkId, endpoint: EndpointId) =>
    `${this.networkEndpoints(network)}${endpoint}`;
  networkEndpoints = (network: NetworkId) => `${this.allNetworkEndpoints}${network}/`;
  /** Endpoints of all networks. */
  get allNetworkEndpoints(): string {
    return `${this.prefix}/network-endpoints/`;
  }
  nodeEndpoint = (host: HostName, endpoint: EndpointId) => `${this.nodeEndpoints(host)}${endpoint}`;
  nodeEndpoints = (host: HostName) => `${this.prefix}/node-endpoints/${host}/`;

  /** Presence of a network on a host, in its two orders. */
  nodeNetworks = (host: HostName) => `${this.prefix}/nodes/${host}/networks/`;
  nodeNetwork = (host: HostName, network: NetworkId) => `${this.prefix}/nodes/${host}/networks/${network}`;
  networkNode = (network: NetworkId, host: HostName) => `${this.networkNodes(network)}${host}`;
  networkNodes = (network: NetworkId) => `${this.prefix}/nodes-networks/${network}/`;

  host = (host: HostName) => `${this.prefix}/network.hosts/${host}`;
  /** With a lease that the host's agent renews. */
  presence = (host: HostName) => `${this.prefix}/network.presence/${host}`;

  dockerNetwork = (id: string) => `${this.prefix}/docker-networks/${id}`;
  dockerEndpoint = (id: string) => `${this.dockerEndpoints}${id}`;
  get dockerEndpoints(): string {
    return `${this.prefix}/docker-endpoints/`;
  }

  binding = (network: NetworkId, host: HostName, dockerNetwork: string) =>
    `${this.bindings(network)}${host}/${dockerNetwork}`;
  bindings = (network: NetworkId) => `${this.prefix}/network.bindings/${network}/`;

  addressOwner = (network: NetworkId, address: IpAddress) => `${this.addressOwners(network)}${address}`;
  addressOwners = (network: NetworkId) => `${this.allAddressOwners}${network}/`;
  get allAddressOwners(): string {
    return `${this.prefix}/address-owners/`;
  }

  /** Addresses that a host has taken from the pool ahead of need. */
  addressSpare = (network: NetworkId, host: HostName) => `${this.addressSpares(network)}${host}`;
  addressSpares = (network: NetworkId) => `${this.allAddressSpares}${network}/`;
  get allAddressSpares(): string {
    return `${this.prefix}/address-spares/`;
  }

  /** Prefixes of all that says something of a network's addresses. */
  ofNetwork = (id: NetworkId): string[] => [
    this.network(id),
    this.attributes(id),
    this.pool(id),
    this.networkEndpoints(id),
    this.bindings(id),
    this.addressOwners(id),
    this.addressSpares(id),
  ];

  vni = (vni: Vni) => `${this.prefix}/vnis/${vni}`;
  /** Names may hold any printable character. */
  name = (name: string) => `${this.prefix}/names/${encodeURIComponent(name)}`;

  /** What the mirror follows: everything from `/network` up to, and without, `/networl`. */
  get followed(): string {
    return `${this.prefix}/network`;
  }

  /** Where a large snapshot of the followed range is cut. */
  get followedCuts(): string[] {
    const endpoints = this.allNetworkEndpoints;
    return [endpoints, ...cutsBelow(endpoints), `${this.prefix}/network.`, `${this.prefix}/network/`];
  }

  /** Where a look at the whole prefix is cut, in order. */
  get cuts(): string[] {
    const families = [
      'address-owners',
      'ipalloc',
      'network-endpoints',
      'network',
      'node-endpoints',
      'nodes-networks',
    ];
    return families.flatMap(family => [
      `${this.prefix}/${family}/`,
      ...cutsBelow(`${this.prefix}/${family}/`),
    ]);
  }

  /** A key of the followed range in its parts; undefined for one that is none of ours. */
  parseFollowed(key: string): FollowedKey | undefined {
    const [family, network, third, fourth, ...more] = key.slice(this.prefix.length + 1).split('/');
    if (network === undefined) return undefined;
    const ofHost = HOST_FAMILIES.get(family);
    if (ofHost)
      return third === undefined && isHostName(network) ? { family: ofHost, hostname: network } : undefined;
    if (!isNetworkId(network) || more.length > 0) return undefined;
    if (third === undefined) {
      if (family === 'network') return { family, network };
      return family === 'network.attributes' ? { family: 'attributes', network } : undefined;
    }
    if (fourth === undefined) {
      if (family !== 'network-endpoints') return undefined;
      return isNetworkId(third)
        ? { family: 'endpoint', network, endpoint: third as string as EndpointId }
        : undefined;
    }
    return family === 'network.bindings' ? { family: 'binding', network, dockerNetwork: fourth } : undefined;
  }
}
