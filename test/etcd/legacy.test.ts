import { mtuOf } from '../../model/records.js';
import { newEndpointId, newNetworkId, parseEndpointId } from '../../model/scalars.js';
import { Kernel } from '../../overlay/kernel.js';
import { AddressAgent, makeNetwork, readPool } from '../support/address-agent.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { legacyNetwork } from '../support/legacy-records.js';
import { LegacyStore } from '../support/legacy-store.js';
import { LogBook } from '../support/log-book.js';
import { NetworkHost } from '../support/network-host.js';
import { until } from '../support/until.js';

let etcd: EtcdCluster;
let kernel: Kernel;
let tests = 0;
let prefix = '';
const resources: AsyncDisposable[] = [];

beforeAll(async () => {
  etcd = await startEtcd();
  kernel = await Kernel.start({ log: new LogBook() });
});
beforeEach(() => {
  tests += 1;
  prefix = `/sand-${tests}`;
});
afterEach(async () => {
  for (const resource of resources.splice(0).reverse()) await resource[Symbol.asyncDispose]();
  await etcd.ctl('del', '/etcd-lock/', '--prefix');
});
afterAll(async () => {
  await kernel[Symbol.asyncDispose]();
  await etcd.stop();
});

const use = <T extends AsyncDisposable>(resource: T): T => {
  resources.push(resource);
  return resource;
};
const legacy = (name: string) =>
  use(new LegacyStore(etcd.hosts, prefix, { hostname: name, ip: '192.0.2.1' }));
const address = (name: string) => use(new AddressAgent(etcd.hosts, prefix, name));
const host = async (name: string) => use(await NetworkHost.open({ hosts: etcd.hosts, prefix, name, kernel }));

/** `work` again and again, one at a time. */
async function repeat<T>(times: number, work: () => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let n = 0; n < times; n++) results.push(await work());
  return results;
}

describe('a pool shared with agents of the original', () => {
  it('gives no address twice and loses no bit when both kinds race', async () => {
    const ours = [address('ours-1'), address('ours-2')];
    const theirs = [legacy('theirs-1'), legacy('theirs-2')];
    const [first] = ours as [AddressAgent];
    const id = await makeNetwork(first, '10.0.0.0/24');
    const before = performance.now();
    const [got, given] = await Promise.all([
      Promise.all(ours.flatMap(agent => Array.from({ length: 4 }, () => repeat(6, () => agent.take(id))))),
      Promise.all(theirs.map(agent => repeat(15, () => agent.createEndpoint(id)))),
    ]);
    expect(performance.now() - before).toBeLessThan(10_000);
    const all = [...got.flat(), ...given.flat()];
    expect(all).toHaveLength(78);
    expect(new Set(all).size).toBe(78);
    for (const agent of ours) await agent.addresses[Symbol.asyncDispose]();
    const { taken, owners, spares } = await readPool(etcd, first.keys, id);
    expect(spares).toEqual([]);
    expect(taken).toEqual([0, 1, 255, ...all.map(text => Number(text.split('.')[3]))].sort((a, b) => a - b));
    expect(owners.length).toBe(48);
    expect(await etcd.keys('/etcd-lock/')).toEqual([]);
  }, 60_000);

  it('keeps both kinds going while addresses come and go', async () => {
    const ours = address('ours');
    const theirs = legacy('theirs');
    const id = await makeNetwork(ours, '10.0.0.0/24');
    const churn = async () => ours.free(id, await ours.take(id));
    const theirChurn = async () => theirs.releaseAddress(id, await theirs.createEndpoint(id));
    await Promise.all([...Array.from({ length: 4 }, () => repeat(8, churn)), repeat(10, theirChurn)]);
    await ours.addresses[Symbol.asyncDispose]();
    expect((await readPool(etcd, ours.keys, id)).taken).toEqual([0, 1, 255]);
  }, 60_000);

  it('names the key of a lock whose agent died, and goes on when the key is gone', async () => {
    const ours = address('ours');
    const id = await makeNetwork(ours, '10.0.0.0/24');
    const key = await legacy('dead').dieHolding({ pool: id });
    const before = performance.now();
    await expect(ours.take(id)).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining(key),
      facts: { holder: key },
    });
    expect(performance.now() - before).toBeLessThan(10_000);
    expect(await etcd.keys('/etcd-lock/')).toEqual([key]);
    await etcd.ctl('del', key);
    expect(await ours.take(id)).toBe('10.0.0.2');
  }, 30_000);

  it('waits its turn behind a holder that takes a second', async () => {
    const ours = address('ours');
    const id = await makeNetwork(ours, '10.0.0.0/24');
    const key = await legacy('slow').dieHolding({ pool: id });
    const taking = Promise.all([ours.take(id), ours.take(id)]);
    await until(async () => (await etcd.keys('/etcd-lock/')).length === 2, { what: 'we stand in the queue' });
    await etcd.ctl('del', key);
    expect(await taking).toEqual(['10.0.0.2', '10.0.0.3']);
    expect(await etcd.keys('/etcd-lock/')).toEqual([]);
  });

  it('is not held up by a lock while it needs no change of the pool', async () => {
    const ours = address('ours');
    const id = await makeNetwork(ours, '10.0.0.0/24');
    const reserved = await ours.reserve(id);
    await legacy('holder').dieHolding({ pool: id });
    const before = performance.now();
    await ours.pass(id, reserved);
    expect(performance.now() - before).toBeLessThan(1_000);
  });
});

describe('VNIs among agents of the original', () => {
  it('are unique when eight of ours race with two of theirs', async () => {
    const ours = await Promise.all(Array.from({ length: 8 }, (_, n) => host(`ours-${n}`)));
    const theirs = [legacy('theirs-1'), legacy('theirs-2')];
    const before = performance.now();
    await Promise.all([
      ...ours.map(each => repeat(3, () => each.create())),
      ...theirs.map(each => repeat(8, () => each.createNetwork())),
    ]);
    expect(performance.now() - before).toBeLessThan(20_000);
    const records = [...(await etcd.entries(`${prefix}/network/`)).values()].map(text => JSON.parse(text));
    expect(records).toHaveLength(40);
    expect(new Set(records.map(({ vxlan_vni }) => vxlan_vni)).size).toBe(40);
    expect(await etcd.keys('/etcd-lock/')).toEqual([]);
  }, 60_000);

  it('a lock that a dead agent holds for 300 s is named within the deadline', async () => {
    const ours = await host('ours');
    const key = await legacy('dead').dieHolding('vni');
    const before = performance.now();
    await expect(ours.create()).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining(key),
    });
    expect(performance.now() - before).toBeLessThan(10_000);
    expect(await etcd.keys(prefix)).toEqual([]);
    await etcd.ctl('del', key);
    expect((await ours.create()).record.vxlan_vni).toBe(1);
  }, 30_000);
});

describe('records of agents of the original', () => {
  it('a network with unknown keys and without ours is read, with MTU 1450', async () => {
    const id = newNetworkId();
    await etcd.ctl('put', `${prefix}/network/${id}`, legacyNetwork(id, 7));
    const ours = await host('ours');
    const network = await ours.networks.get(id);
    expect(network).toMatchObject({
      record: { id, vxlan_vni: 7, gateway: '10.0.0.1/24' },
      attributes: undefined,
    });
    expect(mtuOf(network)).toBe(1450);
    expect((await ours.create()).record.vxlan_vni).toBe(1);
  });

  it('an endpoint with unknown keys is a peer, and its address is not given away when its bit is cleared', async () => {
    const ours = await host('ours');
    const theirs = legacy('theirs');
    const network = await ours.create();
    const { id } = network.record;
    const given = await theirs.createEndpoint(id);
    expect(given).toBe('10.0.0.2');
    await until(() => ours.engine.mirror.peers(id).size === 1);
    expect([...ours.engine.mirror.peers(id).values()]).toMatchObject([
      { address: '10.0.0.2', mac: '02:84:0a:00:00:02', hostname: 'theirs', vtep: '192.0.2.1' },
    ]);
    await theirs.releaseAddress(id, given); // as a fault of theirs would clear it
    await expect(ours.engine.reservations.reserve(network, given as never)).rejects.toMatchObject({
      kind: 'conflict',
    });
    expect(await ours.engine.reservations.reserve(network, 'lowest')).toBe('10.0.0.3/24');
    expect((await readPool(etcd, ours.engine.options.keys, id)).taken).toEqual([0, 1, 2, 3, 255]);
  });

  it('an endpoint record of the smallest form is read', async () => {
    const ours = await host('ours');
    const { id } = (await ours.create()).record;
    const endpoint = newEndpointId();
    const record = {
      id: endpoint.toUpperCase(),
      network_id: id,
      hostname: 'ours',
      host_ip: '192.0.2.1',
      created_at: '',
      target_veth_mac: '02:84:0A:00:00:09',
      target_veth_ip: '10.0.0.9/24',
    };
    await etcd.ctl('put', `${prefix}/network-endpoints/${id}/${endpoint}`, JSON.stringify(record));
    await until(() => ours.engine.mirror.localEndpoint(parseEndpointId(endpoint)));
    expect(ours.engine.mirror.localEndpoint(parseEndpointId(endpoint))).toMatchObject({
      target_veth_mac: '02:84:0a:00:00:09',
      active: false,
      overlay_veth_name: '',
    });
  });

  it('an endpoint record of the fullest form is read', async () => {
    const ours = await host('ours');
    const { id } = (await ours.create()).record;
    const endpoint = newEndpointId();
    const record = {
      id: endpoint,
      network_id: id,
      hostname: 'ours',
      host_ip: '192.0.2.1',
      api_hostname: 'ours.example.org',
      created_at: '2020-01-01T00:00:00.123456789+02:00',
      target_netns_path: '/var/run/docker/netns/73d3c79736d3',
      overlay_veth_name: 'sand1a2b',
      overlay_veth_mac: 'AA:BB:CC:DD:EE:0F',
      target_veth_name: 'sandb2a1',
      target_veth_mac: '02:84:0A:00:00:09',
      target_veth_ip: '10.0.0.9/24',
      active: true,
      more: { of: ['anything', null] },
      docker_id: 'unknown to us',
    };
    await etcd.ctl('put', `${prefix}/network-endpoints/${id}/${endpoint}`, JSON.stringify(record));
    await until(() => ours.engine.mirror.localEndpoint(endpoint));
    const { more: _more, docker_id: _dockerId, ...known } = record;
    expect(ours.engine.mirror.localEndpoint(endpoint)).toEqual({
      ...known,
      overlay_veth_mac: 'aa:bb:cc:dd:ee:0f',
      target_veth_mac: '02:84:0a:00:00:09',
    });
  });

  it('a network that they delete is gone for us, and its leftovers of ours hinder nobody', async () => {
    const ours = await host('ours');
    const { id } = (await ours.create({ name: 'shop', uniqueName: true })).record;
    await legacy('theirs').deleteNetwork(id);
    await until(() => ours.networks.list().length === 0);
    await expect(ours.networks.get(id)).rejects.toMatchObject({ kind: 'not-found' });
    expect((await ours.create({ name: 'shop', uniqueName: true })).record).toMatchObject({ vxlan_vni: 1 });
  });
});
