import { mkdtemp, symlink, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endpointIdOf } from '../../engine/host.js';
import { newEndpointId, parseNetnsPath, parseNetworkId } from '../../model/scalars.js';
import { ApiHost, type ApiHostPlan } from '../support/api-host.js';
import { ok } from '../support/command.js';
import { dockerWish } from '../support/docker-wish.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { NetnsLab, TestNetns } from '../support/netns.js';
import { until } from '../support/until.js';

let etcd: EtcdCluster;
let lab: NetnsLab;
let plan: ApiHostPlan;
let ant: ApiHost;
let beeNetns: TestNetns;
let prefix = '';
let tests = 0;

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());
beforeEach(async () => {
  prefix = `/departed-${++tests}`;
  lab = await NetnsLab.open();
  const [netns, other] = await lab.hosts('ant', 'bee');
  beeNetns = other;
  plan = { hosts: etcd.hosts, prefix, name: 'ant', netns, vtep: '10.99.0.1' };
  ant = await ApiHost.open(plan);
});
afterEach(async () => {
  await ant[Symbol.asyncDispose]();
  await lab[Symbol.asyncDispose]();
});

/** The agent ends, `meanwhile` happens, and another begins. */
async function whileAway(meanwhile: () => Promise<unknown>): Promise<void> {
  await ant[Symbol.asyncDispose]();
  await meanwhile();
  ant = await ApiHost.open(plan);
}

const remove = ({ path }: TestNetns) => ok(['ip', 'netns', 'delete', path.slice(path.lastIndexOf('/') + 1)]);
const pool = async (id: string) =>
  JSON.parse((await etcd.entries(`${prefix}/ipalloc/${id}`)).get(`${prefix}/ipalloc/${id}`) ?? '{}');
const records = async () =>
  [...(await etcd.entries(`${prefix}/node-endpoints/ant/`)).values()].map(text => JSON.parse(text));

/** A container as Docker makes one: endpoint, join, and the interface moved into the sandbox. */
async function container(network: string, name: string): Promise<TestNetns> {
  const { dockerEndpoints, mirror } = ant.host.engine;
  const sandbox = await lab.netns(name);
  const { id } = await dockerEndpoints.create(dockerWish(network, name));
  const ifName = await dockerEndpoints.join(name, sandbox.path);
  await ok(['ip', '-n', `${lab.prefix}-ant`, 'link', 'set', ifName, 'netns', `${lab.prefix}-${name}`]);
  await until(() => mirror.localEndpoint(id)?.target_netns_path === sandbox.path, {
    what: 'the sandbox is recorded',
  });
  return sandbox;
}

describe('an agent that was away', () => {
  it('removes the endpoint of a container that is gone, with its address, and keeps that of one that lives', async () => {
    const { id } = await ant.network();
    const fresh = (await pool(id)).bit_set;
    const gone = await container(id, 'gone');
    await whileAway(() => remove(gone));
    await until(async () => (await records()).length === 0, { what: 'the record is gone' });
    expect((await pool(id)).bit_set).toBe(fresh);
    expect(await etcd.keys(`${prefix}/address-owners/`)).toEqual([]);
    expect(await etcd.keys(`${prefix}/docker-endpoints/`)).toEqual([]);

    const living = await container(id, 'living');
    await whileAway(async () => undefined);
    await until(() => ant.host.log.texts('warn').includes('interface of an endpoint is missing'), {
      what: 'it is compared',
    });
    expect(await records()).toMatchObject([{ target_netns_path: living.path, active: true }]);
  });

  it('removes one of Docker’s that was never joined, when it is old', async () => {
    const { id } = await ant.network();
    const young = endpointIdOf('young');
    const purpose = { kind: 'docker', endpointId: 'young', networkId: 'n', source: 'sand-ipam' } as const;
    const wish = { networkId: parseNetworkId(id), address: undefined, mac: undefined, purpose };
    const record = await ant.host.engine.endpoints.create({ ...wish, id: young });
    const old = { ...record, id: newEndpointId(), created_at: new Date(Date.now() - 120_000).toISOString() };
    await whileAway(async () => {
      for (const key of [`network-endpoints/${id}/${old.id}`, `node-endpoints/ant/${old.id}`]) {
        await etcd.ctl('put', `${prefix}/${key}`, JSON.stringify({ ...old, target_veth_ip: '10.0.0.9/24' }));
      }
    });
    await until(async () => (await records()).length === 1, { what: 'the old one is gone' });
    expect(await records()).toMatchObject([{ id: young }]);
  });

  it('deactivates an endpoint whose namespace is gone, keeps its address, and makes another’s interface again', async () => {
    const { id } = await ant.network();
    const [gone, living] = [await lab.netns('gone'), await lab.netns('living')];
    await ant.endpoint(id, gone.path);
    await ant.endpoint(id, living.path);
    await whileAway(() => remove(gone));
    const active = async () =>
      (await records()).map(({ target_veth_ip, active }) => `${target_veth_ip} ${active}`).sort();
    await until(async () => (await active()).join() === '10.0.0.2/24 false,10.0.0.3/24 true', {
      what: 'one is passive',
    });
    expect(await living.addresses('sand0')).toEqual(['10.0.0.3/24 brd 10.0.0.255']);
    expect((await ant.endpoint(id)).body.endpoint.target_veth_ip).toBe('10.0.0.4/24');
  });

  const OBSTACLES = {
    'a link to nowhere': (path: string) => symlink(`${path}-nowhere`, path),
    'a file': (path: string) => writeFile(path, ''),
  };
  it.each(Object.entries(OBSTACLES))(
    'makes a network for which it had no place (%s) as soon as it has',
    async (_, obstruct) => {
      const { id } = await ant.network();
      const living = await lab.netns('living');
      await ant.endpoint(id, living.path);
      const directory = await mkdtemp(join(tmpdir(), 'sand-host-'));
      const namespaces = join(directory, 'netns');
      plan = { ...plan, directory };
      await whileAway(() => obstruct(namespaces));
      await until(() => ant.host.log.texts('error').includes('reconcile not finished, trying again'), {
        what: 'it is told',
      });
      await unlink(namespaces);
      await until(async () => (await living.link('sand0')) !== undefined, {
        what: 'the endpoint has its interface again',
        timeoutMs: 7_000,
      });
      expect(await living.addresses('sand0')).toEqual(['10.0.0.2/24 brd 10.0.0.255']);
      expect(await records()).toMatchObject([{ active: true }]);
    },
  );

  it('and whose VTEP address has changed meanwhile is followed by the others', async () => {
    await using bee = await ApiHost.open({ ...plan, name: 'bee', netns: beeNetns, vtep: '10.99.0.2' });
    const { id } = await ant.network();
    const [one, two] = [await lab.netns('one'), await lab.netns('two')];
    await ant.endpoint(id, one.path);
    await bee.endpoint(id, two.path);
    await until(async () => (await two.ping('10.0.0.2')) === 1, { what: 'two reaches one' });
    plan = { ...plan, vtep: '10.99.0.9' };
    await whileAway(() =>
      plan.netns.ip('address delete 10.99.0.1/24 dev eth0', 'address add 10.99.0.9/24 dev eth0'),
    );
    await until(async () => (await two.ping('10.0.0.2')) === 1, {
      what: 'two reaches one again',
      timeoutMs: 2_000,
    });
    expect((await records()).map(({ host_ip }) => host_ip)).toEqual(['10.99.0.9']);
    const overlay = new TestNetns(parseNetnsPath(join(bee.host.directory, 'netns', `sc-ns-${id}`)));
    expect(await overlay.fdb('vxlan0')).toContainEqual(
      expect.objectContaining({ mac: '02:84:0a:00:00:02', dst: '10.99.0.9' }),
    );
  });
});
