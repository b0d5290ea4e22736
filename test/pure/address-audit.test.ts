import { auditAddresses, GRACE_MS } from '../../engine/address-audit.js';
import type { NetworkTruth } from '../../engine/truth.js';
import { TruthSorter } from '../../engine/truth.js';
import { Pool } from '../../ipam/pool.js';
import { parseRange } from '../../ipam/range.js';
import { parseHostName, parseInterfaceAddress, parseIpAddress, parseNetworkId } from '../../model/scalars.js';
import { Keys } from '../../store/keys.js';

const KEYS = new Keys('/sc-net');
const ID = parseNetworkId('6ffc3990-b212-47f2-a5d1-2afe7526e548');
const ENDPOINT = '11111111-1111-4111-8111-111111111111';
const OTHER = '22222222-2222-4222-8222-222222222222';
const NOW = 1_800_000_000_000;
const OLD = NOW - GRACE_MS - 1;

interface Plan {
  /** Last numbers of addresses whose bit is set, beside the network's own. */
  readonly bits?: readonly number[];
  readonly endpoints?: Readonly<Record<string, number>>;
  readonly owners?: Readonly<Record<number, object>>;
  readonly spares?: readonly number[];
  readonly aux?: readonly number[];
}

const address = (n: number) => parseIpAddress(`10.0.0.${n}`);

/** Made from values as etcd has them. */
function network({ bits = [], endpoints = {}, owners = {}, spares, aux }: Plan): NetworkTruth {
  const pool = Pool.fresh(ID, parseRange('10.0.0.0/24'), parseInterfaceAddress('10.0.0.1/24'));
  for (const n of bits) pool.take(address(n));
  const record = {
    ...{ id: ID, created_at: '', name: 'shop', type: 'overlay', ns_handle_path: '' },
    ...{ vxlan_vni: 1, ip_range: '10.0.0.0/24', gateway: '10.0.0.1/24' },
  };
  const endpoint = (id: string, n: number) => ({
    ...{ id, network_id: ID, hostname: 'ant', host_ip: '10.99.0.1', created_at: '' },
    ...{ target_veth_mac: '02:84:0a:00:00:02', target_veth_ip: `10.0.0.${n}/24` },
  });
  const bee = parseHostName('bee');
  const values: [string, object][] = [
    [KEYS.network(ID), record],
    [KEYS.pool(ID), pool.toRecord()],
    ...Object.entries(endpoints).map(([id, n]): [string, object] => [
      `${KEYS.networkEndpoints(ID)}${id}`,
      endpoint(id, n),
    ]),
    ...Object.entries(owners).map(([n, owner]): [string, object] => [
      KEYS.addressOwner(ID, address(Number(n))),
      owner,
    ]),
  ];
  if (spares) values.push([KEYS.addressSpare(ID, bee), { addresses: spares.map(address) }]);
  if (aux) {
    const rest = { docker_network_id: 'd1', ipam: 'sand-ipam', internal: false, egress: 'docker' };
    values.push([
      KEYS.binding(ID, bee, 'd1'),
      { network_id: ID, hostname: 'bee', aux_addresses: aux.map(address), ...rest },
    ]);
  }
  const entries = values.map(([key, value], i) => {
    return { key, value: JSON.stringify(value), createRevision: i + 1, modRevision: i + 1 };
  });
  const sorter = new TruthSorter(KEYS);
  for (const entry of entries) sorter.add(entry);
  const truth = sorter.truth(99);
  expect(truth.broken).toEqual([]);
  return truth.networks.get(ID) as NetworkTruth;
}

const owner = (kind: string, at = NOW, more: object = {}) => ({
  kind,
  hostname: 'ant',
  op: 'op',
  at,
  ...more,
});
const ofEndpoint = (id: string) => owner('endpoint', OLD, { endpoint_id: id });

describe('auditAddresses()', () => {
  it.each<[string, Plan, string[]]>([
    ['nothing but the network', {}, []],
    [
      'an endpoint with its bit and its owner',
      { bits: [2], endpoints: { [ENDPOINT]: 2 }, owners: { 2: ofEndpoint(ENDPOINT) } },
      [],
    ],
    ['an endpoint of the original, without an owner', { bits: [2], endpoints: { [ENDPOINT]: 2 } }, []],
    ['a young reservation', { bits: [2], owners: { 2: owner('reservation') } }, []],
    ['an aux address that a binding lists', { bits: [2], owners: { 2: owner('aux', OLD) }, aux: [2] }, []],
    ['a spare of a living host', { bits: [2], spares: [2] }, []],
    ['a bit that nobody explains', { bits: [2] }, ['unexplained 2']],
    ['an owner without its endpoint', { bits: [2], owners: { 2: ofEndpoint(ENDPOINT) } }, ['no-endpoint 2']],
    ['an old reservation', { bits: [2], owners: { 2: owner('reservation', OLD) } }, ['old-reservation 2']],
    [
      'an old reservation whose endpoint came',
      { bits: [2], endpoints: { [ENDPOINT]: 2 }, owners: { 2: owner('reservation', OLD) } },
      [],
    ],
    [
      'an aux address that no binding lists',
      { bits: [2], owners: { 2: owner('aux', OLD) } },
      ['unlisted-aux 2'],
    ],
    ['an endpoint whose bit is clear', { endpoints: { [ENDPOINT]: 2 } }, ['bit-clear 2']],
    ['a reservation whose bit is clear', { owners: { 2: owner('reservation') } }, ['bit-clear 2']],
    [
      'two endpoints of one address',
      { bits: [2], endpoints: { [ENDPOINT]: 2, [OTHER]: 2 } },
      ['address-twice 2'],
    ],
    [
      'an owner of another endpoint',
      { bits: [2], endpoints: { [ENDPOINT]: 2 }, owners: { 2: ofEndpoint(OTHER) } },
      ['other-owner 2'],
    ],
  ])('%s', (_what, plan, expected) => {
    const found = auditAddresses(network(plan), { nowMs: NOW, isGone: () => false });
    expect(found.map(({ fault, address: at }) => `${fault} ${at.split('.')[3]}`)).toEqual(expected);
  });

  it('a spare of a host that is gone', () => {
    const found = auditAddresses(network({ bits: [2], spares: [2] }), {
      nowMs: NOW,
      isGone: host => host === 'bee',
    });
    expect(found).toMatchObject([{ fault: 'spare-of-gone-host', address: '10.0.0.2', host: 'bee' }]);
  });

  it('says nothing of addresses that a value which nobody can read may explain', () => {
    const truth = network({ bits: [2], owners: { 3: ofEndpoint(ENDPOINT) } });
    truth.broken.push('/sc-net/network-endpoints/x/y');
    const found = auditAddresses(truth, { nowMs: NOW, isGone: () => true });
    expect(found.map(({ fault }) => fault)).toEqual(['bit-clear']);
  });
});
