/** What an endpoint of Docker's has in the kernel between its creation and its join, judged with ip. */
import { setTimeout as sleep } from 'node:timers/promises';
import { readDoubtfulOwners } from '../../engine/doubtful-owners.js';
import { endpointIdOf, targetVethOf } from '../../engine/host.js';
import { parseMacAddress, parseNetnsPath, parseNetworkId } from '../../model/scalars.js';
import { ApiHost } from '../support/api-host.js';
import { ON_BRIDGE } from '../support/data-plane.js';
import { dockerWish } from '../support/docker-wish.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { NetnsLab, type TestNetns } from '../support/netns.js';
import { until } from '../support/until.js';

const SANDBOX = parseNetnsPath('/run/docker/netns/0123456789ab');
const NAME = 'container';
const IF_NAME = targetVethOf(endpointIdOf(NAME));

let etcd: EtcdCluster;
let lab: NetnsLab;
let netns: TestNetns;
let ant: ApiHost;
let tests = 0;

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());
beforeEach(async () => {
  lab = await NetnsLab.open();
  [netns] = await lab.hosts('ant');
  const plan = { hosts: etcd.hosts, prefix: `/docker-endpoints-${++tests}`, name: 'ant', vtep: '10.99.0.1' };
  ant = lab.own(await ApiHost.open({ ...plan, netns }));
});
afterEach(() => lab[Symbol.asyncDispose]());

const endpoints = () => ant.host.engine.dockerEndpoints;

const create = (network: string) => endpoints().create(dockerWish(network, NAME));

const isThere = async () => (await netns.links()).some(({ ifname }) => ifname === IF_NAME);
/** Of the host's namespace; the pair's other end is in the overlay. */
const interfaces = async () =>
  (await netns.links()).map(({ ifname }) => ifname).filter(name => !['lo', 'eth0'].includes(name));

describe("an endpoint of Docker's", () => {
  it('has its interface before it is joined, and the join answers that one; of macvlans not before', async () => {
    const { id } = await ant.network();
    const mac = parseMacAddress('02:00:00:00:00:0a', 'mac');
    await endpoints().create({ ...dockerWish(id, NAME), mac });
    if (!ON_BRIDGE) expect(await isThere()).toBe(false);
    else await until(isThere, { what: 'the interface is there' });
    expect(await endpoints().join(NAME, SANDBOX)).toBe(IF_NAME);
    expect(await netns.link(IF_NAME)).toMatchObject({ address: mac });
    expect(await interfaces()).toEqual([IF_NAME]);
  });

  it('is joined while its interface is still being made', async () => {
    const { id } = await ant.network();
    await create(id);
    expect(await endpoints().join(NAME, SANDBOX)).toBe(IF_NAME);
    expect(await interfaces()).toEqual([IF_NAME]);
  });

  it('leaves nothing when it is removed without a join, also while its interface is made', async () => {
    const { id } = await ant.network();
    for (const _ of Array.from({ length: 10 })) {
      await create(id);
      await endpoints().remove(NAME);
      await until(async () => (await interfaces()).length === 0, { what: 'no interface is left' });
    }
    await create(id);
    await endpoints().join(NAME, SANDBOX);
    await endpoints().remove(NAME);
    await until(async () => (await interfaces()).length === 0, { what: 'no interface is left' });
    expect((await ant.api.get('/endpoints')).body.endpoints).toEqual([]);
    expect(ant.host.engine.reconciler.book.count).toBe(0);
  });

  it('leaves nothing when it is removed while it waits for its turn with the kernel', async () => {
    const { id } = await ant.network();
    const { kernel, host } = ant.host.engine.options;
    const queue = Promise.all(Array.from({ length: 1_000 }, () => kernel.underlay(host.vtep)));
    await endpoints().create(dockerWish(id, 'other'));
    await create(id);
    await endpoints().remove(NAME);
    await queue;
    expect(await endpoints().join('other', SANDBOX)).toBe(targetVethOf(endpointIdOf('other')));
    expect(await interfaces()).toEqual([targetVethOf(endpointIdOf('other'))]);
  });

  it('leaves no doubt about its address, as one of the API; an owner that somebody writes anew does', async () => {
    const { id } = await ant.network();
    await create(id);
    await endpoints().join(NAME, SANDBOX);
    await ant.endpoint(id);
    const { engine } = ant.host;
    const doubtful = () =>
      readDoubtfulOwners({ ...engine.options, mirror: engine.mirror }, engine.options.host.name);
    expect(await doubtful()).toEqual([]);
    const owners = await etcd.entries(engine.options.keys.addressOwners(parseNetworkId(id)));
    expect(owners.size).toBe(2);
    const [[key, value] = ['', '']] = owners;
    await etcd.ctl('put', key, value);
    expect(await doubtful()).toMatchObject([{ key, value }]);
  });

  it('says at its join why it has none, and has it when the reason is gone', async () => {
    const { id } = await ant.network();
    await netns.ip(`link add ${IF_NAME} type bridge`);
    await create(id);
    await expect(endpoints().join(NAME, SANDBOX)).rejects.toThrow(/is the name taken on this host/);
    await netns.ip(`link delete ${IF_NAME}`);
    expect(await endpoints().join(NAME, SANDBOX)).toBe(IF_NAME);
    expect(await isThere()).toBe(true);
  });

  it('gets another interface at its join when somebody has removed the one that was made', async () => {
    const { id } = await ant.network();
    await create(id);
    if (ON_BRIDGE) {
      await until(isThere, { what: 'the interface is there' });
      await netns.ip(`link delete ${IF_NAME}`);
      await sleep(1_100); // what is younger is taken for there
    }
    expect(await endpoints().join(NAME, SANDBOX)).toBe(IF_NAME);
    expect(await isThere()).toBe(true);
  });

  it('is known in its container to an agent that starts before its record says which that is', async () => {
    const { id } = await ant.network();
    const container = await lab.netns('one');
    await create(id);
    await endpoints().join(NAME, container.path);
    await netns.ip(`link set ${IF_NAME} netns ${container.path}`);
    await ant.restart();
    expect(ant.host.engine.mirror.localEndpoint(endpointIdOf(NAME))?.target_netns_path).toBe('');
    expect(await ant.host.engine.reconciler.reconcile(parseNetworkId(id))).toEqual([]);
  });

  it('keeps the interface that a container has when its creation is repeated', async () => {
    const { id } = await ant.network();
    const container = await lab.netns('one');
    const record = await create(id);
    await endpoints().join(NAME, container.path);
    await netns.ip(`link set ${IF_NAME} netns ${container.path}`);
    expect(await create(id)).toMatchObject({ id: record.id, target_veth_ip: record.target_veth_ip });
    await ant.host.engine.reconciler.reconcile(parseNetworkId(id));
    expect(await container.link(IF_NAME)).toBeDefined();
  });
});
