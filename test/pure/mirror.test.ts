import { Mirror, type MirrorEvent } from '../../engine/mirror.js';
import { newEndpointId, newNetworkId, parseHostName, parseIpAddress, type Vni } from '../../model/scalars.js';
import type { KeyValue } from '../../store/client.js';
import type { Change } from '../../store/follow.js';
import { Keys } from '../../store/keys.js';
import { LogBook } from '../support/log-book.js';

const keys = new Keys('/sc-net');
const HERE = parseHostName('here');
const THERE = parseHostName('there');
const network = newNetworkId();
const endpoint = newEndpointId();
const NETWORK_KEY = keys.network(network);
const ENDPOINT_KEY = keys.networkEndpoint(network, endpoint);

function setUp() {
  const log = new LogBook();
  const mirror = new Mirror(keys, HERE, log);
  const events: MirrorEvent[] = [];
  mirror.onEvent(event => void events.push(event));
  return { mirror, events, log };
}

const networkRecord = (fields: object = {}) => ({
  id: network,
  created_at: '2024-01-01T00:00:00Z',
  name: 'shop',
  type: 'overlay',
  ns_handle_path: '/var/run/netns/x',
  vxlan_vni: 5,
  ip_range: '10.0.0.0/24',
  gateway: '10.0.0.1/24',
  ...fields,
});
const endpointRecord = (fields: object = {}) => ({
  id: endpoint,
  network_id: network,
  hostname: THERE,
  host_ip: '192.0.2.2',
  created_at: '',
  target_veth_mac: '02:84:0a:00:00:02',
  target_veth_ip: '10.0.0.2/24',
  ...fields,
});
const entry = (key: string, value: unknown, modRevision: number, createRevision = modRevision): KeyValue => ({
  key,
  value: typeof value === 'string' ? value : JSON.stringify(value),
  createRevision,
  modRevision,
});
/** Of one page. */
function applySnapshot(mirror: Mirror, entries: readonly KeyValue[], revision: number): void {
  mirror.beginSnapshot(revision, 'followed');
  mirror.applyPage(entries);
  mirror.endSnapshot();
}
const put = (key: string, value: unknown, revision: number): Change => ({
  kind: 'put',
  entry: entry(key, value, revision),
});
const gone = (key: string, revision: number): Change => ({ kind: 'delete', key, revision });
const kinds = (events: readonly MirrorEvent[]) => events.map(({ kind }) => kind);
const ip = (text: string) => parseIpAddress(text);

describe('what is known', () => {
  it('a network is found by id, by name and by VNI, and forgotten with its record', () => {
    const { mirror } = setUp();
    applySnapshot(mirror, [entry(NETWORK_KEY, networkRecord(), 3)], 10);
    expect(mirror.network(network)?.record.name).toBe('shop');
    expect(mirror.networksNamed('shop')).toHaveLength(1);
    expect(mirror.vnis.bearersOf(5 as Vni)).toEqual(new Set([network]));
    expect(mirror.createRevisionOf(network)).toBe(3);
    mirror.applyChanges([gone(NETWORK_KEY, 11)], 11);
    expect(mirror.network(network)).toBeUndefined();
    expect(mirror.networksNamed('shop')).toEqual([]);
    expect(mirror.vnis.bearersOf(5 as Vni).size).toBe(0);
    expect(mirror.networks()).toEqual([]);
  });

  it('a network that takes another VNI and name bears only the new ones', () => {
    const { mirror } = setUp();
    applySnapshot(mirror, [entry(NETWORK_KEY, networkRecord(), 3)], 3);
    mirror.applyChanges([put(NETWORK_KEY, networkRecord({ vxlan_vni: 6, name: 'other' }), 4)], 4);
    expect(mirror.vnis.bearersOf(5 as Vni).size).toBe(0);
    expect(mirror.vnis.bearersOf(6 as Vni).size).toBe(1);
    expect(mirror.networksNamed('shop')).toEqual([]);
    expect(mirror.networksNamed('other')).toHaveLength(1);
  });

  it('an endpoint of another host is a peer, one of this host is local too', () => {
    const { mirror, events } = setUp();
    applySnapshot(
      mirror,
      [entry(NETWORK_KEY, networkRecord(), 1), entry(ENDPOINT_KEY, endpointRecord(), 2)],
      2,
    );
    expect(mirror.bearerOf(network, ip('10.0.0.2'))).toMatchObject({ endpointId: endpoint, hostname: THERE });
    expect(mirror.localEndpoints()).toEqual([]);
    mirror.applyChanges([put(ENDPOINT_KEY, endpointRecord({ hostname: HERE }), 3)], 3);
    expect(mirror.localEndpoint(endpoint)).toMatchObject({ hostname: HERE });
    expect(mirror.localCount(network)).toBe(1);
    expect(kinds(events)).toEqual(['network', 'peer', 'local', 'peer']);
    expect(events.at(-1)).toMatchObject({ before: { hostname: THERE }, after: undefined });
  });

  it('an endpoint that changes nothing that peers see is no event', () => {
    const { mirror, events } = setUp();
    applySnapshot(mirror, [entry(ENDPOINT_KEY, endpointRecord(), 2)], 2);
    events.length = 0;
    mirror.applyChanges([put(ENDPOINT_KEY, endpointRecord({ active: true }), 3)], 3);
    expect(events).toEqual([]);
    mirror.applyChanges([put(ENDPOINT_KEY, endpointRecord({ target_veth_ip: '10.0.0.9/24' }), 4)], 4);
    expect(events).toMatchObject([
      { kind: 'peer', before: { address: '10.0.0.2' }, after: { address: '10.0.0.9' } },
    ]);
    expect(mirror.bearerOf(network, ip('10.0.0.2'))).toBeUndefined();
  });

  it('an address that passed to a newer endpoint is not lost with the older', () => {
    const { mirror } = setUp();
    const newer = newEndpointId();
    const newerKey = keys.networkEndpoint(network, newer);
    applySnapshot(mirror, [entry(ENDPOINT_KEY, endpointRecord(), 2)], 2);
    mirror.applyChanges([put(newerKey, endpointRecord({ id: newer }), 3)], 3);
    mirror.applyChanges([gone(ENDPOINT_KEY, 4)], 4);
    expect(mirror.bearerOf(network, ip('10.0.0.2'))?.endpointId).toBe(newer);
  });

  it('a binding that goes is told with its host', () => {
    const { mirror, events } = setUp();
    const key = keys.binding(network, HERE, 'd1');
    const record = {
      network_id: network,
      hostname: HERE,
      docker_network_id: 'd1',
      ipam: 'sand-ipam',
      internal: false,
      egress: 'docker',
      aux_addresses: [],
    };
    applySnapshot(mirror, [entry(key, record, 2)], 2);
    expect(mirror.binding('d1')).toMatchObject({ network_id: network });
    mirror.applyChanges([gone(key, 3)], 3);
    expect(mirror.binding('d1')).toBeUndefined();
    expect(events).toEqual([{ kind: 'binding-gone', networkId: network, hostname: HERE }]);
  });

  it.each([
    '/sc-net/networks/x',
    '/sc-net/network/not-a-uuid',
    `/sc-net/network/${network}/more`,
    '/sc-net/network',
  ])('the key %s is none of ours, and is passed over', key => {
    const { mirror, log } = setUp();
    applySnapshot(mirror, [entry(key, '{', 2)], 2);
    expect(mirror.networks()).toEqual([]);
    expect(log.lines).toEqual([]);
  });
});

describe('a commit of our own', () => {
  const commit = { put: NETWORK_KEY, value: networkRecord() };

  it('before the follower brings it: known at once, and told once', () => {
    const { mirror, events } = setUp();
    applySnapshot(mirror, [], 1);
    mirror.applyCommit([commit, { put: keys.pool(network), value: {} }], 5);
    expect(mirror.network(network)).toBeDefined();
    expect(mirror.createRevisionOf(network)).toBe(5);
    mirror.applyChanges([put(NETWORK_KEY, networkRecord(), 5)], 5);
    expect(kinds(events)).toEqual(['network']);
  });

  it('after the follower has brought it: changes nothing', () => {
    const { mirror, events } = setUp();
    applySnapshot(mirror, [], 1);
    mirror.applyChanges([put(NETWORK_KEY, networkRecord({ name: 'as stored' }), 5)], 5);
    mirror.applyCommit([commit], 5);
    expect(mirror.network(network)?.record.name).toBe('as stored');
    expect(kinds(events)).toEqual(['network']);
  });

  it('is not undone by older events that come late', () => {
    const { mirror } = setUp();
    applySnapshot(mirror, [entry(NETWORK_KEY, networkRecord({ name: 'first' }), 1)], 1);
    mirror.applyCommit([{ put: NETWORK_KEY, value: networkRecord({ name: 'third' }) }], 9);
    mirror.applyChanges([put(NETWORK_KEY, networkRecord({ name: 'second' }), 4)], 4);
    expect(mirror.network(network)?.record.name).toBe('third');
    mirror.applyChanges([gone(NETWORK_KEY, 5)], 5);
    expect(mirror.network(network)?.record.name).toBe('third');
  });

  it('that deletes is not undone by an older put, and is by a newer one', () => {
    const { mirror } = setUp();
    applySnapshot(mirror, [entry(NETWORK_KEY, networkRecord(), 1)], 1);
    mirror.applyCommit([{ delete: NETWORK_KEY }], 9);
    mirror.applyChanges([put(NETWORK_KEY, networkRecord(), 4)], 4);
    expect(mirror.network(network)).toBeUndefined();
    mirror.applyChanges([gone(NETWORK_KEY, 9), put(NETWORK_KEY, networkRecord(), 10)], 10);
    expect(mirror.network(network)).toBeDefined();
    expect(mirror.createRevisionOf(network)).toBe(10);
  });

  it('survives a snapshot that is older, written or deleted', () => {
    const { mirror } = setUp();
    const other = newNetworkId();
    applySnapshot(mirror, [entry(keys.network(other), networkRecord({ id: other, name: 'old' }), 1)], 1);
    mirror.applyCommit([{ delete: keys.network(other) }], 7);
    mirror.applyCommit([commit], 8);
    applySnapshot(mirror, [entry(keys.network(other), networkRecord({ id: other, name: 'old' }), 1)], 6);
    expect(mirror.networks().map(({ record }) => record.id)).toEqual([network]);
    applySnapshot(mirror, [entry(NETWORK_KEY, networkRecord(), 8)], 8);
    expect(mirror.networks().map(({ record }) => record.id)).toEqual([network]);
  });
});

describe('a second snapshot', () => {
  it('is told as the difference: what went, what came, what changed, and nothing else', () => {
    const { mirror, events } = setUp();
    const [stays, goes, comes] = [newNetworkId(), newNetworkId(), newNetworkId()];
    const of = (id: typeof stays, revision: number, name = id) =>
      entry(keys.network(id), networkRecord({ id, name, vxlan_vni: revision }), revision);
    applySnapshot(mirror, [of(stays, 1), of(goes, 2), of(network, 3)], 5);
    events.length = 0;
    applySnapshot(mirror, [of(stays, 1), of(network, 7, 'renamed' as never), of(comes, 8)], 9);
    expect(events.map(event => event.networkId).sort()).toEqual([goes, network, comes].sort());
    expect(mirror.networks()).toHaveLength(3);
    expect(mirror.revision).toBe(9);
  });
});

describe('a second snapshot of which only the news are brought', () => {
  it('keeps what it is told to be there, takes what is new, and forgets the rest', () => {
    const { mirror, events, log } = setUp();
    const [stays, changes, goes, broken] = [endpoint, newEndpointId(), newEndpointId(), newEndpointId()];
    const keyOf = (id: typeof stays) => keys.networkEndpoint(network, id);
    const of = (id: typeof stays, revision: number, fields: object = {}) =>
      entry(keyOf(id), endpointRecord({ id, target_veth_ip: `10.0.0.${revision}/24`, ...fields }), revision);
    const all = [entry(NETWORK_KEY, networkRecord(), 1), of(stays, 2), of(changes, 3), of(goes, 4)];
    applySnapshot(mirror, [...all, of(broken, 5, { target_veth_mac: 'none' })], 5);
    events.length = 0;
    log.lines.length = 0;
    mirror.beginSnapshot(9, 'followed');
    expect(mirror.knows(NETWORK_KEY, 1)).toBe(true);
    expect(mirror.knows(keyOf(stays), 2)).toBe(true);
    expect(mirror.knows(keyOf(changes), 7)).toBe(false);
    expect(mirror.knows(keyOf(broken), 5)).toBe(true);
    expect(mirror.knows('/sc-net/networks/x', 6)).toBe(true);
    mirror.applyPage([of(changes, 7)]);
    mirror.endSnapshot();
    expect([...mirror.peers(network).values()].map(peer => peer.address)).toEqual(['10.0.0.2', '10.0.0.7']);
    expect(mirror.network(network)).toBeDefined();
    expect(kinds(events)).toEqual(['peer', 'peer']);
    expect(log.lines).toEqual([]);
  });

  it('that had to be begun anew leaves nothing behind', () => {
    const { mirror } = setUp();
    applySnapshot(mirror, [entry(ENDPOINT_KEY, endpointRecord(), 2)], 2);
    mirror.beginSnapshot(5, 'followed');
    expect(mirror.knows(ENDPOINT_KEY, 2)).toBe(true);
    mirror.beginSnapshot(6, 'followed');
    mirror.endSnapshot();
    expect(mirror.peers(network).size).toBe(0);
    expect(mirror.revision).toBe(6);
  });
});

describe('reached()', () => {
  it('resolves when the follower is there, not before', async () => {
    const { mirror } = setUp();
    let reached = false;
    const waiting = mirror.reached(5).then(() => {
      reached = true;
    });
    applySnapshot(mirror, [], 4);
    mirror.applyCommit([{ put: NETWORK_KEY, value: networkRecord() }], 6);
    await Promise.resolve();
    expect(reached).toBe(false);
    mirror.applyChanges([put(NETWORK_KEY, networkRecord(), 6)], 6);
    await waiting;
    await mirror.reached(6);
  });
});

describe('a broken record', () => {
  it.each([
    ['no JSON', '{'],
    ['another type', '[]'],
    ['a VNI that VXLAN has not', networkRecord({ vxlan_vni: 0 })],
    ['a gateway that is none', networkRecord({ gateway: '10.0.0.1' })],
  ])('(%s) counts as absent, is logged with its key, and is back when it is mended', (_, broken) => {
    const { mirror, log } = setUp();
    const other = newNetworkId();
    applySnapshot(mirror, [entry(NETWORK_KEY, networkRecord(), 1)], 1);
    mirror.applyChanges(
      [put(NETWORK_KEY, broken, 2), put(keys.network(other), networkRecord({ id: other }), 3)],
      3,
    );
    expect(mirror.networks().map(({ record }) => record.id)).toEqual([other]);
    expect(log.lines).toMatchObject([
      { level: 'error', text: 'record ignored', facts: { key: NETWORK_KEY } },
    ]);
    mirror.applyChanges([put(NETWORK_KEY, networkRecord(), 4)], 4);
    expect(mirror.networks()).toHaveLength(2);
  });

  it('of an endpoint takes it from the peers', () => {
    const { mirror, events } = setUp();
    applySnapshot(mirror, [entry(ENDPOINT_KEY, endpointRecord(), 1)], 1);
    mirror.applyChanges([put(ENDPOINT_KEY, endpointRecord({ target_veth_mac: 'none' }), 2)], 2);
    expect(mirror.peers(network).size).toBe(0);
    expect(events.at(-1)).toMatchObject({ kind: 'peer', after: undefined });
  });
});
