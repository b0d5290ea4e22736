/** Hosts that die, are cut off, are given away and come back: engines in namespaces of their own, and a real etcd. */
import { ApiHost } from '../support/api-host.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { NetnsLab, TestNetns } from '../support/netns.js';
import { expirePresence } from '../support/presence.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

let etcd: EtcdCluster;
let lab: NetnsLab;
let line: TcpProxy;
let ant: ApiHost;
let bee: ApiHost;
let hosts: readonly [TestNetns, TestNetns, TestNetns];
let network: string;
let prefix = '';
let tests = 0;
const running = new Set<ApiHost>();

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());
beforeEach(async () => {
  prefix = `/hosts-${++tests}`;
  lab = await NetnsLab.open();
  hosts = await lab.hosts('ant', 'bee', 'cat');
  line = lab.own(await TcpProxy.open(etcd.hosts[0] ?? ''));
  ant = await open(1, 'ant', etcd.hosts);
  bee = await open(2, 'bee', [line.url]);
  network = (await ant.network()).id;
});
afterEach(async () => {
  for (const host of running) await stop(host);
  await lab[Symbol.asyncDispose]();
});

async function open(number: 1 | 2 | 3, name: string, etcdHosts: readonly string[], more: object = {}) {
  const netns = hosts[number - 1] as TestNetns;
  const plan = { hosts: etcdHosts, prefix, name, netns, vtep: `10.99.0.${number}`, ...more };
  const host = await ApiHost.open(plan);
  running.add(host);
  return host;
}

/** Its containers and its records stay. */
async function stop(host: ApiHost): Promise<void> {
  running.delete(host);
  await host[Symbol.asyncDispose]();
}

/** An endpoint with a container, which answers pings. */
async function container(host: ApiHost, name: string, wish: object = {}): Promise<TestNetns> {
  const netns = await lab.netns(name);
  const made = await host.endpoint(network, netns.path, wish);
  expect([made.status, made.body.error]).toEqual([201, undefined]);
  return netns;
}

const overlayOf = (host: ApiHost) =>
  new TestNetns(`${host.host.directory}/netns/sc-ns-${network}` as TestNetns['path']);
/** Where a host sends packets of the network. */
const neighboursOf = async (host: ApiHost) =>
  (await overlayOf(host).fdb('vxlan0')).flatMap(({ dst }) => dst ?? []).sort();
const hostAs = async (host: ApiHost, name: string) => (await host.api.get(`/hosts/${name}`)).body.host;
const becomes = (host: ApiHost, name: string, state: string) =>
  until(async () => (await hostAs(host, name)).state === state, { what: `${name} is ${state}` });

/** The line to etcd is cut, and the presence has ended; the containers live on. */
async function partition(): Promise<void> {
  line.cut();
  await expirePresence(etcd, prefix, 'bee');
  await becomes(ant, 'bee', 'gone');
}

describe('a host that is gone', () => {
  it('is shown with since when, and its endpoints stay neighbours', async () => {
    const one = await container(ant, 'one');
    await container(bee, 'two');
    await partition();
    expect(await hostAs(ant, 'bee')).toMatchObject({ state: 'gone', endpoints: 1, vtep: '10.99.0.2' });
    expect(Date.parse((await hostAs(ant, 'bee')).gone_since)).toBeGreaterThan(Date.now() - 10_000);
    const { status } = (await ant.api.get('/status')).body;
    expect(status.hosts).toMatchObject({ living: 1, others: [{ hostname: 'bee', state: 'gone' }] });
    expect(await neighboursOf(ant)).toEqual(['10.99.0.2']);
    expect(await one.ping('10.0.0.3', { count: 3 })).toBe(3);
  });

  it('is no neighbour any more when it is declared gone, keeps its addresses, and is one again within 2 s', async () => {
    const one = await container(ant, 'one');
    await container(bee, 'two');
    expect((await ant.api.delete('/hosts/bee')).body.error).toContain('lives');
    await partition();
    expect((await ant.api.delete('/hosts/bee')).body.host).toMatchObject({ state: 'removed', endpoints: 1 });
    await until(async () => (await neighboursOf(ant)).length === 0, { timeoutMs: 2_000 });
    expect((await ant.endpoint(network, undefined, { ipv4_address: '10.0.0.3' })).status).toBe(409);
    line.heal();
    await until(async () => (await neighboursOf(ant)).includes('10.99.0.2'), { timeoutMs: 3_000 });
    expect(await hostAs(ant, 'bee')).toMatchObject({ state: 'living', removed_at: null });
    expect(await one.ping('10.0.0.3', { count: 3 })).toBe(3);
  });

  it('is cut off by itself after --host-dead-after', async () => {
    const cat = await open(3, 'cat', etcd.hosts, { hostDeadAfterSeconds: 1 });
    await container(cat, 'three');
    await container(bee, 'two');
    await until(async () => (await neighboursOf(cat)).includes('10.99.0.2'));
    await partition();
    await until(async () => (await neighboursOf(cat)).length === 0, { timeoutMs: 3_000 });
    line.heal();
    await until(async () => (await neighboursOf(cat)).includes('10.99.0.2'), { timeoutMs: 3_000 });
  });
});

describe('a host that is removed for good', () => {
  it('comes back and resurrects nothing: its address is another endpoint’s by then', async () => {
    const one = await container(ant, 'one');
    const two = await container(bee, 'two');
    expect((await ant.api.delete('/hosts/bee?gone=true')).status).toBe(409);
    await partition();
    const { status, body } = await ant.api.delete('/hosts/bee?gone=true');
    expect([status, body.given_away]).toEqual([200, { endpoints: 1, reservations: 0, bindings: 0 }]);
    // A word of its own: ids are hexadecimal, and have `bee` in them at times.
    const left = [...(await etcd.entries(prefix))].filter(entry => /\bbee\b/.test(entry.join(' ')));
    expect(left).toEqual([]);
    const heir = await container(ant, 'heir', { ipv4_address: '10.0.0.3' });
    expect(await two.link('sand0')).toBeDefined();

    line.heal();
    await until(async () => (await two.link('sand0')) === undefined, { what: 'the interface goes' });
    await becomes(ant, 'bee', 'living');
    expect(await one.ping('10.0.0.3', { count: 3 })).toBe(3);
    const mac = (await heir.link('sand0'))?.address;
    expect((await one.neighbours('sand0')).find(({ dst }) => dst === '10.0.0.3')?.lladdr).toBe(mac);
    const records = [...(await etcd.entries(`${prefix}/network-endpoints/${network}/`)).values()];
    expect(records.map(text => JSON.parse(text).hostname)).toEqual(['ant', 'ant']);
    expect((await bee.endpoint(network)).status).toBe(201);
  });

  it('commits nothing of what it began before', async () => {
    await container(bee, 'two');
    line.swallowAnswers();
    await expirePresence(etcd, prefix, 'bee');
    await becomes(ant, 'bee', 'gone');
    expect((await bee.endpoint(network)).status).toBe(503);
    expect(await etcd.keys(`${prefix}/node-endpoints/bee/`)).toHaveLength(1);
  });

  it('may be one of the original, which never registered', async () => {
    const id = '0b5f7f2e-6d8c-4c6e-9a43-0d7b8a4a1c11';
    const record = {
      ...{
        id,
        network_id: network,
        hostname: 'old',
        host_ip: '10.99.0.9',
        created_at: '2020-01-01T00:00:00Z',
      },
      ...{ target_veth_mac: '02:84:0a:00:00:09', target_veth_ip: '10.0.0.9/24', active: true },
    };
    for (const key of [`network-endpoints/${network}/${id}`, `node-endpoints/old/${id}`]) {
      await etcd.ctl('put', `${prefix}/${key}`, JSON.stringify(record));
    }
    for (const key of [`nodes/old/networks/${network}`, `nodes-networks/${network}/old`]) {
      await etcd.ctl('put', `${prefix}/${key}`, JSON.stringify({ id: network, created_at: '' }));
    }
    await until(async () => (await hostAs(ant, 'old'))?.state === 'unknown');
    expect((await ant.api.delete('/hosts/old')).body.error).toContain('--gone');
    expect((await ant.api.delete('/hosts/old?gone=true')).body.given_away.endpoints).toBe(1);
    expect((await etcd.keys(prefix)).filter(key => key.includes('old'))).toEqual([]);
    expect((await ant.endpoint(network, undefined, { ipv4_address: '10.0.0.9' })).status).toBe(201);
  });
});

describe('DELETE /networks with force', () => {
  it('takes endpoints of hosts that are declared gone, and of no others', async () => {
    await container(bee, 'two');
    await partition();
    expect((await ant.api.delete(`/networks/${network}?force=true`)).status).toBe(409);
    await ant.api.delete('/hosts/bee');
    expect((await ant.api.delete(`/networks/${network}?force=true`)).status).toBe(204);
    expect(await etcd.keys(prefix)).toEqual([]);
  });
});

describe('a host that is drained', () => {
  it('takes no new endpoints, also after a restart of its agent, until that ends', async () => {
    await container(bee, 'two');
    expect(
      (await ant.api.post('/hosts/bee').send({ draining: true })).body.host.draining_since,
    ).not.toBeNull();
    await until(async () => (await bee.endpoint(network)).status === 409, { what: 'bee is drained' });
    await stop(bee);
    bee = await open(2, 'bee', [line.url]);
    expect((await bee.endpoint(network)).body.error).toContain('drained');
    await bee.api.post('/hosts/bee').send({ draining: false });
    expect((await bee.endpoint(network)).status).toBe(201);
  });
});

describe('a host with another VTEP address', () => {
  it('is followed by the others within 2 s', async () => {
    const cat = await open(3, 'cat', etcd.hosts);
    for (const [host, name] of [
      [ant, 'one'],
      [bee, 'two'],
      [cat, 'three'],
    ] as const)
      await container(host, name);
    await stop(bee);
    await hosts[1].ip('address add 10.99.0.22/24 dev eth0');
    bee = await open(2, 'bee', [line.url], { vtep: '10.99.0.22' });
    for (const host of [ant, cat]) {
      const follows = async () => (await neighboursOf(host)).includes('10.99.0.22');
      await until(follows, { timeoutMs: 2_000, what: 'the new address is a neighbour' });
      expect(await neighboursOf(host)).not.toContain('10.99.0.2');
    }
  });
});
