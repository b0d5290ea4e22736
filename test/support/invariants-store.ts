/** What must always hold of the keys of a cluster, in words where it does not. Pure. */
import {
  bare,
  type EndpointTruth,
  endsOf,
  type NetworkTruth,
  type OwnerTruth,
  type Truth,
} from './invariants-truth.js';

export interface StoreRules {
  /** How long an address may be reserved without an endpoint. */
  readonly reservationMs: number;
  /** Hosts with agents of ours; endpoints of others need no owner keys. */
  readonly hosts: readonly string[];
}

export function storeViolations(truth: Truth, rules: StoreRules): string[] {
  return [
    ...[...truth.networks.values()].flatMap(network => [
      ...addressViolations(truth, network, rules),
      ...claimViolations(truth, network),
    ]),
    ...ownerlessFamilies(truth),
    ...pairViolations(truth),
    ...presenceViolations(truth),
    ...bindingViolations(truth),
    ...duplicates(
      [...truth.networks.values()],
      ({ vxlan_vni }) => `VNI ${vxlan_vni}`,
      ({ id }) => `network ${id}`,
    ),
    ...duplicates(
      truth.endpoints,
      ({ network_id, target_veth_ip }) => `address ${bare(target_veth_ip)} of network ${network_id}`,
      ({ id, hostname }) => `endpoint ${id} of ${hostname}`,
    ),
  ];
}

function duplicates<T>(all: readonly T[], what: (each: T) => string, who: (each: T) => string): string[] {
  const bearers = new Map<string, string[]>();
  for (const each of all) bearers.set(what(each), [...(bearers.get(what(each)) ?? []), who(each)]);
  return [...bearers].flatMap(([text, ids]) =>
    ids.length > 1 ? [`${text} is given twice: ${ids.join(', ')}`] : [],
  );
}

/** Bits, owners and endpoints of one network explain each other. */
function addressViolations(truth: Truth, network: NetworkTruth, rules: StoreRules): string[] {
  const { id } = network;
  const taken = truth.takenIn(network);
  if (!taken) return [`network ${id} has no pool`];
  const found: string[] = [];
  const explained = new Set<string>([...endsOf(network.ip_range), bare(network.gateway)]);
  const owners = new Map<string, OwnerTruth>();
  for (const { parts, value } of truth.family<OwnerTruth>('address-owners')) {
    if (parts[0] === id) owners.set(parts[1] ?? '', value);
  }
  for (const endpoint of truth.endpointsOf(id)) {
    const address = bare(endpoint.target_veth_ip);
    explained.add(address);
    const owner = owners.get(address);
    if (rules.hosts.includes(endpoint.hostname) && owner?.endpoint_id !== endpoint.id) {
      found.push(`address ${address} of endpoint ${endpoint.id} is owned by ${show(owner)}`);
    }
  }
  for (const [address, owner] of owners) {
    explained.add(address);
    const why = ownerViolation(truth, { network: id, address, owner, rules });
    if (why) found.push(`address ${address} of network ${id} is owned by ${show(owner)}: ${why}`);
  }
  for (const { parts, value } of truth.family<{ addresses: string[] }>('address-spares')) {
    if (parts[0] === id) for (const address of value.addresses) explained.add(address);
  }
  for (const address of taken) {
    if (!explained.has(address)) found.push(`address ${address} of network ${id} is taken by nobody`);
  }
  for (const address of explained) {
    if (!taken.has(address)) found.push(`address ${address} of network ${id} is in use and its bit is clear`);
  }
  return found;
}

const show = (owner: OwnerTruth | undefined) =>
  owner ? [owner.kind, owner.endpoint_id ?? '', `of ${owner.hostname}`].filter(Boolean).join(' ') : 'nobody';

interface Owned {
  readonly network: string;
  readonly address: string;
  readonly owner: OwnerTruth;
  readonly rules: StoreRules;
}

function ownerViolation(truth: Truth, { network, address, owner, rules }: Owned): string | undefined {
  if (owner.kind === 'endpoint') {
    const endpoint = truth.endpointsOf(network).find(({ id }) => id === owner.endpoint_id);
    return endpoint && bare(endpoint.target_veth_ip) === address ? undefined : 'no such endpoint has it';
  }
  if (owner.kind === 'reservation') {
    const seconds = Math.round((Date.now() - owner.at) / 1_000);
    return seconds * 1_000 > rules.reservationMs ? `for ${seconds} s` : undefined;
  }
  const lists = truth.bindingsOf(network).some(({ value }) => value.aux_addresses.includes(address));
  return lists ? undefined : 'no binding lists it';
}

/** VNI and name of a network that agents of ours made are claimed for it. */
function claimViolations(truth: Truth, { id, vxlan_vni }: NetworkTruth): string[] {
  const attributes = truth.attributesOf(id);
  if (!attributes) return [];
  const found: string[] = [];
  const claim = truth.family<{ network_id: string }>('vnis').find(({ parts }) => parts[0] === `${vxlan_vni}`);
  if (claim?.value.network_id !== id) {
    found.push(`VNI ${vxlan_vni} of network ${id} is claimed by ${claim?.value.network_id ?? 'nobody'}`);
  }
  const used = truth.bindingsOf(id).length + truth.endpointsOf(id).length;
  if (attributes.origin === 'docker' && used === 0)
    found.push(`network ${id} is Docker's and nobody uses it`);
  return found;
}

/** Keys about a network, or a claim for one, that does not exist. */
function ownerlessFamilies(truth: Truth): string[] {
  const about = [
    'network.attributes',
    'network.bindings',
    'network-endpoints',
    'nodes-networks',
    'ipalloc',
    'address-owners',
    'address-spares',
  ];
  const orphans = about.flatMap(family =>
    truth
      .family(family)
      .filter(({ parts }) => !truth.networks.has(parts[0] ?? ''))
      .map(({ parts }) => `${family}/${parts.join('/')} is of no network`),
  );
  const claims = ['vnis', 'names'].flatMap(family =>
    truth.family<{ network_id: string }>(family).flatMap(({ parts: [what = ''], value }) => {
      const network = truth.networks.get(value.network_id);
      const borne = family === 'vnis' ? `${network?.vxlan_vni}` : encodeURIComponent(network?.name ?? '');
      return network && borne === what
        ? []
        : [`${family}/${what} is claimed for ${value.network_id}, which is not so`];
    }),
  );
  return [...orphans, ...claims];
}

/** An endpoint stands under two keys, one of Docker's under three. */
function pairViolations(truth: Truth): string[] {
  const found: string[] = [];
  const byNode = new Map(
    truth.family<EndpointTruth>('node-endpoints').map(({ parts, value }) => [parts.join('/'), value]),
  );
  const byDocker = new Map(
    truth.family<{ SandEndpointID: string }>('docker-endpoints').map(({ parts, value }) => [parts[0], value]),
  );
  for (const endpoint of truth.endpoints) {
    const { id, hostname, docker } = endpoint;
    const twin = byNode.get(`${hostname}/${id}`);
    if (!twin) found.push(`endpoint ${id} is missing in node-endpoints of ${hostname}`);
    else if (JSON.stringify(twin) !== JSON.stringify(endpoint)) found.push(`endpoint ${id} has two records`);
    byNode.delete(`${hostname}/${id}`);
    if (docker && byDocker.get(docker.endpoint_id)?.SandEndpointID !== id) {
      found.push(`endpoint ${id} is missing in docker-endpoints`);
    }
    if (docker) byDocker.delete(docker.endpoint_id);
  }
  found.push(...[...byNode.keys()].map(key => `node-endpoints/${key} is of no endpoint`));
  found.push(...[...byDocker.keys()].map(key => `docker-endpoints/${key} is of no endpoint`));
  return found;
}

/** A host is present in a network, in both orders, as long as it has an endpoint there. */
function presenceViolations(truth: Truth): string[] {
  const wanted = new Set(truth.endpoints.map(({ network_id, hostname }) => `${network_id} on ${hostname}`));
  const orders = {
    nodes: truth.family('nodes').map(({ parts }) => `${parts[2]} on ${parts[0]}`),
    'nodes-networks': truth.family('nodes-networks').map(({ parts }) => `${parts[0]} on ${parts[1]}`),
  };
  return Object.entries(orders).flatMap(([family, there]) => [
    ...there.filter(each => !wanted.has(each)).map(each => `${family}: network ${each} without an endpoint`),
    ...[...wanted].filter(each => !there.includes(each)).map(each => `${family}: network ${each} is missing`),
  ]);
}

/** A Docker network and ours are tied by two keys; a promise ends by itself. */
function bindingViolations(truth: Truth): string[] {
  const found: string[] = [];
  const ties = new Map(
    truth.family<{ SandNetworkID: string }>('docker-networks').map(({ parts, value }) => [parts[0], value]),
  );
  for (const { parts, value, leased } of truth.family<{ docker_network_id: string; network_id: string }>(
    'network.bindings',
  )) {
    const { docker_network_id: docker, network_id } = value;
    if (docker.startsWith('pending-')) {
      if (!leased) found.push(`promise ${parts.join('/')} never ends`);
    } else if (ties.get(docker)?.SandNetworkID !== network_id) {
      found.push(`binding ${parts.join('/')} is missing in docker-networks`);
    }
    ties.delete(docker);
  }
  return [...found, ...[...ties.keys()].map(key => `docker-networks/${key} is of no binding`)];
}
