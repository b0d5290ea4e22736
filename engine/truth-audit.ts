/** What contradicts itself in the truth at one revision. Pure. */
import { contains, parseRange } from '../ipam/range.js';
import { addressOf, type EndpointId, type NetworkId, type Vni } from '../model/scalars.js';
import { unhurried } from '../model/unhurried.js';
import type { Difference } from './difference.js';
import type { NetworkTruth, Truth } from './truth.js';

export async function auditTruth(truth: Truth): Promise<Difference[]> {
  const found = truth.broken.map(({ key, networkId, text }): Difference => {
    return { area: 'truth', kind: 'broken-value', text, key, networkId };
  });
  await unhurried(truth.networks.values(), network => {
    for (const difference of ofNetwork(network)) found.push(difference);
  });
  return [...found, ...sharedVnis(truth), ...lonelyClaims(truth), ...(await unequalPairs(truth))];
}

function* ofNetwork(network: NetworkTruth): Iterable<Difference> {
  const { id, record, pool, endpoints, owners, broken } = network;
  const found = (kind: Difference['kind'], text: string, key?: string): Difference => {
    return { area: 'truth', kind, text, key, networkId: id };
  };
  if (!record) {
    // With a broken record it is broken, not gone; what is left of a network's claims harms nobody.
    const parts = endpoints.length + owners.size;
    if (broken.length === 0 && parts > 0) {
      const text = `network ${id} has no record, but ${endpoints.length} endpoints and ${owners.size} address owners`;
      yield found('no-network', text, endpoints[0]?.key);
    }
    return;
  }
  const { ip_range, gateway } = record.value;
  if (!pool) {
    if (broken.length === 0) yield found('no-pool', `network ${id} has no pool of addresses`, record.key);
  } else if (pool.value.range.cidr !== ip_range) {
    const text = `the pool of network ${id} is of ${pool.value.range.cidr}, its range is ${ip_range}`;
    yield found('other-pool', text, pool.key);
  }
  if (!isInside(ip_range, gateway)) {
    yield found('gateway-outside', `gateway ${gateway} of network ${id} is outside ${ip_range}`, record.key);
  }
  for (const { key, value } of endpoints) {
    if (isInside(ip_range, value.target_veth_ip)) continue;
    const text = `endpoint ${value.id} has ${value.target_veth_ip}, outside ${ip_range} of network ${id}`;
    yield found('endpoint-outside', text, key);
  }
}

function isInside(range: string, address: Parameters<typeof addressOf>[0]): boolean {
  try {
    return contains(parseRange(range), addressOf(address));
  } catch {
    return false;
  }
}

function* sharedVnis({ networks }: Truth): Iterable<Difference> {
  const first = new Map<Vni, NetworkId>();
  const known = [...networks.values()].flatMap(({ record }) => record ?? []);
  for (const { key, value } of known.sort((a, b) => a.createRevision - b.createRevision)) {
    const { id, vxlan_vni } = value;
    const older = first.get(vxlan_vni);
    if (older === undefined) first.set(vxlan_vni, id);
    else {
      const text = `networks ${older} and ${id} share VNI ${vxlan_vni}; their traffic mixes on hosts that have both`;
      yield { area: 'truth', kind: 'shared-vni', text, key, networkId: id };
    }
  }
}

function* lonelyClaims({ networks, claims }: Truth): Iterable<Difference> {
  for (const { key, value: id } of claims) {
    const network = networks.get(id);
    if (network?.record || (network?.broken.length ?? 0) > 0) continue;
    const text = `held for network ${id}, which does not exist; whoever wants it may take it`;
    yield { area: 'truth', kind: 'lonely-claim', text, key, networkId: id };
  }
}

async function unequalPairs({ networks, nodeEndpoints, broken }: Truth): Promise<Difference[]> {
  const unreadable = new Set(broken.map(({ key }) => key.slice(key.lastIndexOf('/') + 1)));
  const byId = new Map(nodeEndpoints.map(stored => [stored.value.id, stored] as const));
  const paired = new Set<EndpointId>();
  const found: Difference[] = [];
  await unhurried(networks.values(), ({ id: networkId, endpoints }) => {
    for (const { key, value } of endpoints) {
      const other = byId.get(value.id);
      paired.add(value.id);
      if (unreadable.has(value.id)) continue;
      const at = { area: 'truth', kind: 'unequal-pair', networkId, endpointId: value.id } as const;
      const whose = `endpoint ${value.id} of host ${value.hostname}`;
      if (!other) found.push({ ...at, text: `${whose} is not listed for its host`, key });
      else if (JSON.stringify(other.value) !== JSON.stringify(value)) {
        found.push({ ...at, text: `${whose} is not the same for its network and its host`, key: other.key });
      }
    }
  });
  for (const { key, value } of nodeEndpoints) {
    if (paired.has(value.id) || unreadable.has(value.id)) continue;
    const text = `endpoint ${value.id} is listed for host ${value.hostname}, and its network does not have it`;
    const { network_id: networkId, id: endpointId } = value;
    found.push({ area: 'truth', kind: 'unequal-pair', text, key, networkId, endpointId });
  }
  return found;
}
