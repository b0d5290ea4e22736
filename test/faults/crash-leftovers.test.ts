/** What a killed agent leaves to others, or to time. */
import { addressOf } from '../../model/scalars.js';
import { Kernel } from '../../overlay/kernel.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { violations } from '../support/invariants.js';
import { LogBook } from '../support/log-book.js';
import { NetworkHost } from '../support/network-host.js';
import { until } from '../support/until.js';

const PREFIX = '/leftovers';
const MINUTE_MS = 60_000;

let etcd: EtcdCluster;
let kernel: Kernel;
beforeAll(async () => {
  etcd = await startEtcd();
  kernel = await Kernel.start({ log: new LogBook() });
});
afterEach(() => etcd.ctl('del', PREFIX, '--prefix'));
afterAll(async () => {
  await kernel[Symbol.asyncDispose]();
  await etcd.stop();
});

const open = (name: string) => NetworkHost.open({ hosts: etcd.hosts, prefix: PREFIX, name, kernel });
const get = async (key: string) => JSON.parse((await etcd.get(`${PREFIX}/${key}`)) ?? 'null');
const put = (key: string, value: object) => etcd.ctl('put', `${PREFIX}/${key}`, JSON.stringify(value));

it('a VNI that is given twice, since the agent ended before it could yield it, is yielded by any other at its start', async () => {
  const ant = await open('ant');
  const [older, younger] = [await ant.create(), await ant.create()];
  await ant[Symbol.asyncDispose](); // its own start would look for such VNIs, too
  const ours = younger.record.id;
  // As an agent of the original makes one: without claims, which it does not know.
  await etcd.ctl('del', `${PREFIX}/network.attributes/${older.record.id}`);
  await put(`network/${ours}`, { ...younger.record, vxlan_vni: 1 });
  await put('vnis/1', { network_id: ours });
  await etcd.ctl('del', `${PREFIX}/vnis/2`);
  const cluster = { etcd, prefix: PREFIX, hosts: [] };
  expect((await violations(cluster)).join()).toContain('VNI 1 is given twice');
  const [first, second] = await Promise.all([open('bee'), open('cat')]);
  try {
    await until(async () => (await violations(cluster)).length === 0, { what: 'each has its own' });
    expect((await get(`network/${ours}`)).vxlan_vni).toBe(2);
    expect(await etcd.keys(`${PREFIX}/vnis/`)).toEqual([`${PREFIX}/vnis/2`]);
  } finally {
    for (const host of [first, second]) await host[Symbol.asyncDispose]();
  }
});

it('a reservation that nobody came back for is returned when it is old, by the agent that made it; a used one is not', async () => {
  await using ant = await open('ant');
  const network = await ant.create();
  const { id } = network.record;
  const { reservations, orphans, endpoints } = ant.engine;
  const [forgotten, used] = [
    addressOf(await reservations.reserve(network, 'lowest')),
    addressOf(await reservations.reserve(network, 'lowest')),
  ];
  const purpose = { kind: 'docker', endpointId: 'e1', networkId: 'n1', source: 'sand-ipam' } as const;
  const endpoint = 'f1e5d2cc-252d-4c19-830c-7ae169312a05' as Parameters<typeof endpoints.remove>[0];
  await endpoints.create({ id: endpoint, networkId: id, address: used, mac: undefined, purpose });
  const owners = async () =>
    (await etcd.keys(`${PREFIX}/address-owners/`)).map(key => key.slice(key.lastIndexOf('/') + 1));

  await orphans.returnOld(Date.now() + 9 * MINUTE_MS);
  expect(await owners()).toEqual([forgotten, used]);
  await orphans.returnOld(Date.now() + 11 * MINUTE_MS);
  expect(await owners()).toEqual([used]);
});
