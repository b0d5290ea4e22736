/** What verify, repair and gc say and do about a cluster that somebody has damaged in etcd and in the kernel. */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { DifferenceJson, LeakJson } from '../../cli/client.js';
import { parseNetnsPath } from '../../model/scalars.js';
import { ApiHost } from '../support/api-host.js';
import { GATEWAY_NAME, ON_BRIDGE } from '../support/data-plane.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { namespaceHost, untilSound } from '../support/invariants.js';
import { NetnsLab, TestNetns } from '../support/netns.js';
import { until } from '../support/until.js';

const OLD_MS = 3_600_000;

let etcd: EtcdCluster;
let lab: NetnsLab;
let ant: ApiHost;
let antNetns: TestNetns;
let prefix: string;
let network: string;
/** Where ant's endpoint has its interface. */
let target: TestNetns;
let endpoint: { id: string; overlay_veth_name: string };
let tests = 0;

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());
beforeEach(async () => {
  prefix = `/verify-${++tests}`;
  lab = await NetnsLab.open();
  [antNetns] = await lab.hosts('ant');
  ant = await ApiHost.open({ hosts: etcd.hosts, prefix, name: 'ant', netns: antNetns, vtep: '10.99.0.1' });
  network = (await ant.network({ name: 'shop' })).id;
  target = await lab.netns('one');
  endpoint = (await ant.endpoint(network, target.path)).body.endpoint;
  await untilSound(cluster());
});
afterEach(async () => {
  await ant[Symbol.asyncDispose]();
  await lab[Symbol.asyncDispose]();
});

const netnsPath = () => join(ant.host.directory, 'netns');
const cluster = () => ({
  etcd,
  prefix,
  hosts: [namespaceHost('ant', { netns: antNetns.path, vtep: '10.99.0.1', netnsPath: netnsPath() })],
});
const overlay = () => new TestNetns(parseNetnsPath(join(netnsPath(), `sc-ns-${network}`)));
const put = (key: string, value: unknown) =>
  etcd.ctl('put', `${prefix}/${key}`, typeof value === 'string' ? value : JSON.stringify(value));
const get = async (key: string) => JSON.parse((await etcd.get(`${prefix}/${key}`)) ?? 'null');

async function differences(): Promise<DifferenceJson[]> {
  const { status, body } = await ant.api.get('/verify');
  expect(status).toBe(200);
  return body.differences;
}
const kinds = async () => (await differences()).map(({ kind }) => kind);
const leaks = async (): Promise<LeakJson[]> => (await ant.api.get('/gc')).body.addresses;
const collect = async (): Promise<LeakJson[]> => (await ant.api.post('/gc').send({})).body.addresses;
const everything = async () => JSON.stringify([...(await etcd.entries(`${prefix}/`))]);

const owner = (kind: string, more: object = {}) => ({
  kind,
  hostname: 'ant',
  op: randomUUID(),
  at: Date.now() - OLD_MS,
  ...more,
});
/** The bit of 10.0.0.n, as an agent of the original takes it. */
async function takeBit(n: number): Promise<void> {
  const pool = await get(`ipalloc/${network}`);
  const bytes = Buffer.from(pool.bit_set, 'base64url');
  const word = 8 + Math.floor(n / 64) * 8;
  bytes.writeBigUInt64BE(bytes.readBigUInt64BE(word) | (1n << BigInt(n % 64)), word);
  await put(`ipalloc/${network}`, { ...pool, bit_set: bytes.toString('base64url').padEnd(56, '=') });
}

describe('verify', () => {
  it('finds nothing in a cluster that is sound, and changes nothing', async () => {
    const before = await everything();
    expect(await differences()).toEqual([]);
    expect(await everything()).toBe(before);
  });

  it('tells what differs in the kernel, before anybody mends it', async () => {
    await overlay().ip(`link set ${GATEWAY_NAME} mtu 1300`);
    expect(await differences()).toMatchObject([
      {
        area: 'kernel',
        kind: 'kernel-differs',
        text: expect.stringContaining(`${GATEWAY_NAME}: mtu 1300`),
        network_id: network,
      },
    ]);
    await until(async () => (await kinds()).length === 0, {
      timeoutMs: 2_500,
      what: 'the agent has mended it',
    });
  });

  it.each<[string, string, () => Promise<unknown>]>([
    ['a record that is no JSON', 'broken-value', () => put(`network/${randomUUID()}`, '{"id":')],
    [
      'an endpoint under another network',
      'broken-value',
      async () =>
        put(
          `network-endpoints/${randomUUID()}/${endpoint.id}`,
          await get(`network-endpoints/${network}/${endpoint.id}`),
        ),
    ],
    ['a lonely name', 'lonely-claim', () => put('names/nobody', { network_id: randomUUID() })],
    [
      'a second network of one VNI',
      'shared-vni',
      async () => {
        const id = randomUUID();
        await put(`network/${id}`, { ...(await get(`network/${network}`)), id, name: 'twin' });
      },
    ],
    [
      'an endpoint that its host does not list',
      'unequal-pair',
      () => etcd.ctl('del', `${prefix}/node-endpoints/ant/${endpoint.id}`),
    ],
    [
      'two endpoints of one address',
      'address-twice',
      async () => {
        const id = randomUUID();
        const twin = {
          ...(await get(`network-endpoints/${network}/${endpoint.id}`)),
          id,
          hostname: 'bee',
          host_ip: '10.99.0.2',
        };
        await put(`network-endpoints/${network}/${id}`, twin);
      },
    ],
  ])('tells of %s', async (_what, kind, damage) => {
    await damage();
    expect(await kinds()).toContain(kind);
  });
});

describe('repair', () => {
  it('lists an endpoint for its host again, and takes its bit', async () => {
    await etcd.ctl('del', `${prefix}/node-endpoints/ant/${endpoint.id}`);
    const pool = await get(`ipalloc/${network}`);
    await put(`ipalloc/${network}`, {
      ...pool,
      bit_set: 'AAAAAAAAAQAAAAAAAAAAAwAAAAAAAAAAAAAAAAAAAACAAAAAAAAAAA==',
    });
    expect(new Set(await kinds())).toEqual(new Set(['unequal-pair', 'bit-clear']));
    const { status, body } = await ant.api.post('/repair').send({});
    expect([status, body.left]).toEqual([200, []]);
    expect(body.done).toHaveLength(2);
    await untilSound(cluster());
  });

  it('leaves what is not ours, and says so', async () => {
    const theirs = ON_BRIDGE
      ? 'link add theirs master br0 type veth peer name theirs-far'
      : `link add theirs link vxlan0 netns ${target.path.split('/').at(-1)} type macvlan mode bridge`;
    await overlay().ip(theirs);
    const { body } = await ant.api.post('/repair').send({});
    expect(body.left).toMatchObject([{ kind: 'foreign', text: expect.stringContaining('theirs') }]);
    const where = ON_BRIDGE ? overlay() : target;
    expect(await where.link('theirs')).toMatchObject(ON_BRIDGE ? { master: 'br0' } : {});
  });
});

describe('gc', () => {
  it('finds nothing to return in a cluster that is sound', async () => {
    expect(await leaks()).toEqual([]);
  });

  it('returns an old reservation and a bit that nobody explains; a dry run only shows them', async () => {
    await takeBit(77);
    await takeBit(78);
    await put(`address-owners/${network}/10.0.0.78`, owner('reservation'));
    const before = await everything();
    const shown = await leaks();
    expect(shown.map(({ address, kind, state }) => [address, kind, state]).sort()).toEqual([
      ['10.0.0.77', 'unexplained', 'leaked'],
      ['10.0.0.78', 'old-reservation', 'leaked'],
    ]);
    expect(await everything()).toBe(before);
    expect((await collect()).map(({ state }) => state)).toEqual(['returned', 'returned']);
    expect(await leaks()).toEqual([]);
    await untilSound(cluster());
  });

  it('keeps what is young, what another host holds, and what a port of this host may have', async () => {
    await takeBit(80);
    await put(`address-owners/${network}/10.0.0.80`, { ...owner('reservation'), at: Date.now() });
    await takeBit(81);
    await put(`address-owners/${network}/10.0.0.81`, { ...owner('reservation'), hostname: 'bee' });
    expect(await collect()).toMatchObject([
      { address: '10.0.0.81', state: 'kept', because: expect.stringContaining('bee') },
    ]);
    expect(await etcd.keys(`${prefix}/address-owners/${network}/10.0.0.8`)).toHaveLength(2);
  });
});

describe('what an agent does by itself', () => {
  const tidied = async () =>
    (await ant.host.engine.upkeep.gc.tidy()).map(({ finding, outcome }) => [finding.address, outcome.state]);
  const reservation = owner('reservation');

  it.each([
    ['an old reservation', (n: number) => ({ [`address-owners/${network}/10.0.0.${n}`]: reservation })],
    [
      'what is held for an endpoint without a record',
      (n: number) => ({
        [`address-owners/${network}/10.0.0.${n}`]: owner('endpoint', { endpoint_id: randomUUID() }),
      }),
    ],
    ['an unlisted aux address', (n: number) => ({ [`address-owners/${network}/10.0.0.${n}`]: owner('aux') })],
    [
      'what a host that is gone took ahead of need',
      (n: number) => ({
        'network.hosts/wasp': { hostname: 'wasp', identity: 'w', vtep: '10.99.0.9', since: '2026-01-01' },
        [`address-spares/${network}/wasp`]: { addresses: [`10.0.0.${n}`] },
      }),
    ],
  ])('returns %s', async (_, keysOf) => {
    const fresh = (await get(`ipalloc/${network}`)).bit_set;
    await takeBit(90);
    for (const [key, value] of Object.entries(keysOf(90))) await put(key, value);
    await until(async () => (await tidied()).toString() === '10.0.0.90,returned', { timeoutMs: 20_000 });
    expect((await get(`ipalloc/${network}`)).bit_set).toBe(fresh);
    expect(await leaks()).toEqual([]);
  });

  it('leaves what is young, another host’s, or of nobody that is known', async () => {
    for (const n of [80, 81, 82]) await takeBit(n);
    await put(`address-owners/${network}/10.0.0.80`, { ...reservation, at: Date.now() });
    await put(`address-owners/${network}/10.0.0.81`, { ...reservation, hostname: 'bee' });
    const before = await everything();
    expect(await tidied()).toEqual([]);
    expect(await everything()).toBe(before);
  });
});

it('a running endpoint that has lost its record gets it back at the start, and keeps its address', async () => {
  const record = await get(`network-endpoints/${network}/${endpoint.id}`);
  await ant.host.halt();
  await etcd.ctl('del', `${prefix}/network-endpoints/${network}/${endpoint.id}`);
  await ant.restart();
  await until(async () => (await get(`network-endpoints/${network}/${endpoint.id}`)) !== null, {
    what: 'it is back',
  });
  expect(await get(`network-endpoints/${network}/${endpoint.id}`)).toEqual(record);
  const port = endpoint.overlay_veth_name;
  if (ON_BRIDGE) expect(await overlay().link(port)).toMatchObject({ master: 'br0' });
  else expect(await target.link('sand0')).toMatchObject({ ifalias: port });
  await untilSound(cluster());
});

it('an address whose record is lost altogether stays taken as long as its interface was there at the start', async () => {
  await ant.host.halt();
  await etcd.ctl('del', `${prefix}/network-endpoints/${network}/${endpoint.id}`);
  await etcd.ctl('del', `${prefix}/node-endpoints/ant/${endpoint.id}`);
  await ant.restart();
  const kept = () => ant.host.log.texts('warn').includes('address kept, a container may have it');
  await until(kept, { what: 'it was looked at' });
  expect(await etcd.keys(`${prefix}/address-owners/${network}/`)).toEqual([
    `${prefix}/address-owners/${network}/10.0.0.2`,
  ]);
  expect((await ant.endpoint(network)).body.endpoint.target_veth_ip).toBe('10.0.0.3/24');
});
