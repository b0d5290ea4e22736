import { Mirror } from '../../engine/mirror.js';
import { Networks } from '../../engine/networks.js';
import { type NetworkId, newNetworkId, parseHostName } from '../../model/scalars.js';
import { Kernel } from '../../overlay/kernel.js';
import { follow } from '../../store/follow.js';
import { Keys } from '../../store/keys.js';
import { transact } from '../../store/transaction.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { legacyNetwork } from '../support/legacy-records.js';
import { LogBook } from '../support/log-book.js';
import { NetworkHost } from '../support/network-host.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

let etcd: EtcdCluster;
let kernel: Kernel;
let tests = 0;
let prefix = '';
let hosts: NetworkHost[] = [];

beforeAll(async () => {
  etcd = await startEtcd();
  kernel = await Kernel.start({ log: new LogBook() });
});
beforeEach(() => {
  tests += 1;
  prefix = `/sand-${tests}`;
});
afterEach(async () => {
  await Promise.all(hosts.map(host => host[Symbol.asyncDispose]()));
  hosts = [];
});
afterAll(async () => {
  await kernel[Symbol.asyncDispose]();
  await etcd.stop();
});

async function open(count: 1): Promise<[NetworkHost]>;
async function open(count: 2): Promise<[NetworkHost, NetworkHost]>;
async function open(count: number): Promise<NetworkHost[]>;
async function open(count: number): Promise<NetworkHost[]> {
  const plan = (n: number) => ({ hosts: etcd.hosts, prefix, name: `host-${n}`, kernel, maxVni: 200 });
  const opened = await Promise.all(Array.from({ length: count }, (_, n) => NetworkHost.open(plan(n))));
  hosts.push(...opened);
  return opened;
}

const stored = async (key: string) => JSON.parse((await etcd.get(key)) ?? 'null');
const vnisIn = async () =>
  [...(await etcd.entries(`${prefix}/network/`)).values()].map(
    value => JSON.parse(value).vxlan_vni as number,
  );
const BOUND = { ipam: 'sand-ipam', internal: false, egress: 'docker', auxAddresses: [] } as const;

describe('create()', () => {
  it('writes the record, attributes, pool, VNI and name of the layout', async () => {
    const [a] = await open(1);
    const { record } = await a.create({ name: 'shop', mtu: 1400 });
    const { id } = record;
    expect(await stored(`${prefix}/network/${id}`)).toEqual({
      id,
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/),
      name: 'shop',
      type: 'overlay',
      ns_handle_path: expect.stringMatching(`/sc-ns-${id}$`),
      vxlan_vni: 1,
      ip_range: '10.0.0.0/24',
      gateway: '10.0.0.1/24',
    });
    expect(await stored(`${prefix}/ipalloc/${id}`)).toEqual({
      id,
      address_range: '10.0.0.0/24',
      address_count: 256,
      bit_set: 'AAAAAAAAAQAAAAAAAAAAAwAAAAAAAAAAAAAAAAAAAACAAAAAAAAAAA==',
    });
    expect(await stored(`${prefix}/network.attributes/${id}`)).toEqual({ mtu: 1400, origin: 'api' });
    expect(await etcd.keys(prefix)).toHaveLength(5);
  });

  it('takes a given id, range and gateway, and the lowest free VNI', async () => {
    const [a] = await open(1);
    const id = newNetworkId();
    const made = await a.create({ id, range: '172.20.0.0/16' as never, gateway: '172.20.9.9/16' as never });
    expect(made.record).toMatchObject({ id, name: `net-sc-${id}`, ip_range: '172.20.0.0/16', vxlan_vni: 1 });
    expect((await a.create()).record.vxlan_vni).toBe(2);
    await a.networks.remove(id);
    expect((await a.create()).record.vxlan_vni).toBe(1);
  });

  it('refuses an id that is taken, by an agent of the original too', async () => {
    const [a] = await open(1);
    const id = newNetworkId();
    await etcd.ctl('put', `${prefix}/network/${id}`, legacyNetwork(id, 7));
    await expect(a.create({ id })).rejects.toMatchObject({ kind: 'conflict', facts: { network_id: id } });
    expect(await etcd.keys(prefix)).toHaveLength(1);
  });

  it.each([
    [{ range: '10.0.0.7/24' }, 'ip_range'],
    [{ range: '10.0.0.0/31' }, 'ip_range'],
    [{ range: '10.0.0.0/24', gateway: '10.0.1.1/24' }, 'gateway'],
    [{ range: '10.0.0.0/24', gateway: '10.0.0.0/24' }, 'gateway'],
  ])('refuses %j and names the field', async (wish, field) => {
    const [a] = await open(1);
    await expect(a.create(wish as never)).rejects.toMatchObject({ kind: 'invalid', facts: { field } });
    expect(await etcd.keys(prefix)).toEqual([]);
  });

  it('gives eight racing agents with six networks each forty-eight VNIs, without a gap', async () => {
    const racing = await open(8);
    const made = await Promise.all(racing.flatMap(host => Array.from({ length: 6 }, () => host.create())));
    const vnis = made.map(({ record }) => record.vxlan_vni);
    expect(new Set(vnis).size).toBe(48);
    expect((await vnisIn()).sort()).toEqual([...vnis].sort());
    expect(Math.max(...vnis)).toBeLessThanOrEqual(48 + 16); // the draw against others skips some
  });

  it('says that the VNIs are used up', async () => {
    const [a] = await open(1);
    for (let n = 1; n <= 200; n++) {
      const id = newNetworkId();
      const writes = [{ put: `${prefix}/network/${id}`, value: JSON.parse(legacyNetwork(id, n)) }];
      await transact(a.engine.options.store, { conditions: [], writes });
    }
    await until(() => a.networks.list().length === 200);
    await expect(a.create()).rejects.toMatchObject({
      kind: 'exhausted',
      message: expect.stringContaining('200'),
    });
  });

  it('yields a VNI that an older network bears, which became known too late', async () => {
    const [a] = await open(1);
    const { store, host } = a.engine.options;
    // Not the prefix of that agent, which separates VNIs given twice as the last of what it does at its start.
    prefix = `${prefix}-late`;
    const keys = new Keys(prefix);
    // A follower that is held up: the choice is made before the older network is known.
    const mirror = new Mirror(keys, parseHostName('late'), new LogBook());
    const stop = new AbortController();
    let release = () => {};
    const held = new Promise<void>(resolve => {
      release = resolve;
    });
    const following = follow(store, {
      prefix: keys.followed,
      signal: stop.signal,
      log: new LogBook(),
      snapshot: {
        begin: (revision, origin) => mirror.beginSnapshot(revision, origin),
        page: entries => mirror.applyPage(entries),
        knows: (key, revision) => mirror.knows(key, revision),
        end: () => mirror.endSnapshot(),
      },
      onChanges: (changes, revision) => void held.then(() => mirror.applyChanges(changes, revision)),
    });
    await until(() => mirror.revision > 0);
    const older = newNetworkId();
    await etcd.ctl('put', keys.network(older), legacyNetwork(older, 1));
    const networks = new Networks({ store, keys, mirror, host, log: new LogBook() });
    const making = networks.create({ mtu: 1450, origin: 'api' });
    await until(async () => (await etcd.keys(`${prefix}/network/`)).length === 2);
    expect(await vnisIn()).toEqual([1, 1]);
    release();
    const { record } = await making;
    expect(record.vxlan_vni).toBe(2);
    expect((await vnisIn()).sort()).toEqual([1, 2]);
    expect(await etcd.keys(`${prefix}/vnis/`)).toEqual([`${prefix}/vnis/2`]);
    stop.abort();
    await following;
  });

  it('recognises its own first try when the answer is lost', async () => {
    await using proxy = await TcpProxy.open(etcd.hosts[0] ?? '');
    const a = await NetworkHost.open({ hosts: [proxy.url], prefix, name: 'far', kernel });
    hosts.push(a);
    const id = newNetworkId();
    proxy.swallowAnswers();
    const making = a.create({ id, name: 'shop', uniqueName: true });
    await until(() => etcd.get(`${prefix}/network/${id}`));
    proxy.blink();
    expect((await making).record.id).toBe(id);
    expect(await etcd.keys(`${prefix}/network/`)).toHaveLength(1);
  });

  it('takes over the name and the VNI of a network that an agent of the original deleted', async () => {
    const [a, b] = await open(2);
    const { record } = await a.create({ name: 'shop', uniqueName: true });
    await etcd.ctl('del', `${prefix}/network/${record.id}`);
    await etcd.ctl('del', `${prefix}/ipalloc/${record.id}`);
    await until(() => a.networks.list().length + b.networks.list().length === 0);
    const again = await b.networks.ensureNamed('shop', { mtu: 1450, origin: 'api' });
    expect(again.record).toMatchObject({ name: 'shop', vxlan_vni: 1 });
    expect(await stored(`${prefix}/names/shop`)).toEqual({ network_id: again.record.id });
    expect(await stored(`${prefix}/vnis/1`)).toEqual({ network_id: again.record.id });
  });
});

describe('find and resolve', () => {
  it('a network made on one host a moment ago is found on another, by id and by name', async () => {
    const [a, b] = await open(2);
    for (let n = 0; n < 20; n++) {
      const { record } = await a.create({ name: `net-${n}` });
      const found = n % 2 ? b.networks.get(record.id) : b.networks.resolve(`net-${n}`);
      expect((await found).record).toEqual(record);
    }
  });

  it.each(['00000000-0000-4000-8000-000000000000', 'nobody'])('%s is not found', async name => {
    const [a] = await open(1);
    await expect(a.networks.resolve(name)).rejects.toMatchObject({
      kind: 'not-found',
      message: expect.stringContaining(name),
    });
  });

  it('an ambiguous name is a conflict that lists the ids', async () => {
    const [a] = await open(1);
    const ids = [newNetworkId(), newNetworkId()];
    for (const [n, id] of ids.entries()) {
      await etcd.ctl('put', `${prefix}/network/${id}`, legacyNetwork(id, n + 1, { name: 'old' }));
    }
    await until(() => a.networks.list().length === 2);
    const error = await a.networks.resolve('old').catch(thrown => thrown);
    expect(error).toMatchObject({ kind: 'conflict' });
    for (const id of ids) expect(error.message).toContain(id);
    await expect(a.networks.ensureNamed('old', { mtu: 1450, origin: 'api' })).rejects.toMatchObject({
      kind: 'conflict',
    });
  });

  it('a record that is broken is named with its key, and hides no other network', async () => {
    const [a] = await open(1);
    const { record } = await a.create();
    const id = newNetworkId();
    await etcd.ctl('put', `${prefix}/network/${id}`, '{"id":7}');
    await until(() => a.log.texts('error').includes('record ignored'));
    await expect(a.networks.get(id)).rejects.toMatchObject({
      kind: 'conflict',
      message: expect.stringContaining(`${prefix}/network/${id}`),
    });
    expect(a.networks.list().map(network => network.record.id)).toEqual([record.id]);
  });

  it.each(['shop', 'two words', 'ümläut', 'per%cent', 'a?b#c&d'])(
    'the name %j is found again',
    async name => {
      const [a, b] = await open(2);
      const { record } = await a.create({ name, uniqueName: true });
      expect((await b.networks.resolve(name)).record.id).toBe(record.id);
    },
  );
});

describe('ensureNamed()', () => {
  it('of four racing agents makes one network, and gives it to all', async () => {
    const racing = await open(4);
    const found = await Promise.all(
      racing.flatMap(({ networks }) =>
        // Of origin docker, and bound to nothing, any agent that starts would sweep it away.
        Array.from({ length: 3 }, () => networks.ensureNamed('shop', { mtu: 1450, origin: 'api' })),
      ),
    );
    expect(new Set(found.map(({ record }) => record.id)).size).toBe(1);
    expect(await etcd.keys(`${prefix}/network/`)).toHaveLength(1);
    expect(await etcd.keys(`${prefix}/ipalloc/`)).toHaveLength(1);
    expect(await etcd.keys(`${prefix}/vnis/`)).toHaveLength(1);
  });

  it('racing with removal always gives a network that was there', async () => {
    const [a, b] = await open(2);
    for (let round = 0; round < 10; round++) {
      const { record } = await a.networks.ensureNamed('shop', { mtu: 1450, origin: 'api' });
      const [again] = await Promise.all([
        b.networks.ensureNamed('shop', { mtu: 1450, origin: 'api' }),
        a.networks.remove(record.id),
      ]);
      const left = await etcd.keys(`${prefix}/network/`);
      if (again.record.id !== record.id) expect(left).toEqual([`${prefix}/network/${again.record.id}`]);
      else expect(left).toEqual([]);
      if (left.length > 0) await b.networks.remove(again.record.id);
      // The next round's first caller answers from its mirror, which hears of this a moment later.
      await until(() => a.networks.list().length === 0);
    }
  });
});

describe('remove()', () => {
  it('leaves no key', async () => {
    const [a] = await open(1);
    const network = await a.create({ name: 'shop' });
    await a.engine.reservations.reserve(network, 'lowest');
    await a.networks.remove(network.record.id);
    expect(await etcd.keys(prefix)).toEqual([]);
    expect(a.networks.list()).toEqual([]);
  });

  it("leaves the claim of another network's name alone", async () => {
    const [a] = await open(1);
    const first = await a.create({ name: 'shop' });
    const second = await a.create({ name: 'shop' });
    await a.networks.remove(second.record.id);
    expect(await stored(`${prefix}/names/shop`)).toEqual({ network_id: first.record.id });
  });

  it("leaves the claim of another network's VNI alone, which an agent of the original gave again", async () => {
    const [a] = await open(1);
    const { id, vxlan_vni } = (await a.create()).record;
    const twin = newNetworkId();
    await etcd.ctl('put', `${prefix}/network/${twin}`, legacyNetwork(twin, vxlan_vni));
    await a.networks.remove(twin);
    expect(await stored(`${prefix}/vnis/${vxlan_vni}`)).toEqual({ network_id: id });
  });

  const inUse = (id: NetworkId): readonly [string, string, object, string][] => [
    ['an endpoint', `network-endpoints/${id}/${newNetworkId()}`, endpoint(id), 'has endpoints on far'],
    ['a binding', `network.bindings/${id}/far/d1`, binding(id), 'is bound to Docker networks of far'],
    ['a host that has it set up', `nodes-networks/${id}/far`, { id, created_at: '' }, 'is set up on far'],
  ];
  const endpoint = (id: NetworkId) => ({
    id: newNetworkId(),
    network_id: id,
    hostname: 'far',
    host_ip: '192.0.2.1',
    created_at: '',
    target_veth_mac: '02:84:0a:00:00:02',
    target_veth_ip: '10.0.0.2/24',
  });
  const binding = (id: NetworkId) => ({
    network_id: id,
    hostname: 'far',
    docker_network_id: 'd1',
    ipam: 'sand-ipam',
    internal: false,
    egress: 'docker',
    aux_addresses: [],
  });

  it.each([0, 1, 2])('is refused while something uses the network, and says what (%#)', async index => {
    const [a] = await open(1);
    const { id } = (await a.create()).record;
    const [, key, value, text] = inUse(id)[index] ?? ['', '', {}, ''];
    await etcd.ctl('put', `${prefix}/${key}`, JSON.stringify(value));
    await expect(a.networks.remove(id)).rejects.toMatchObject({
      kind: 'conflict',
      message: expect.stringContaining(text),
    });
    await etcd.ctl('del', `${prefix}/${key}`);
    await a.networks.remove(id);
    expect(await etcd.keys(prefix)).toEqual([]);
  });

  it('of an unknown network is not-found', async () => {
    const [a] = await open(1);
    await expect(a.networks.remove(newNetworkId())).rejects.toMatchObject({ kind: 'not-found' });
  });
});

describe('a network that Docker made', () => {
  /** Bound in the transaction that makes it, as the plugin does: nobody sees it unused. */
  const createBound = (host: NetworkHost, dockerId: string, origin: 'docker' | 'api' = 'docker') =>
    host.create({ origin, also: ({ id }) => host.bindings.bindWrites(dockerId, id, BOUND) });

  it('goes with its last binding, one made through the API stays', async () => {
    const [a, b] = await open(2);
    for (const origin of ['docker', 'api'] as const) {
      const { id } = (await createBound(a, `${origin}-on-a`, origin)).record;
      await b.bindings.bind(`${origin}-on-b`, await b.networks.get(id), BOUND);
      await a.bindings.unbind(`${origin}-on-a`);
      expect(await etcd.get(`${prefix}/network/${id}`)).toBeDefined();
      await b.bindings.unbind(`${origin}-on-b`);
      expect((await etcd.get(`${prefix}/network/${id}`)) === undefined).toBe(origin === 'docker');
    }
    expect(await etcd.keys(`${prefix}/network.bindings/`)).toEqual([]);
    expect(await etcd.keys(`${prefix}/docker-networks/`)).toEqual([]);
  });

  it('goes also when all hosts unbind at the same moment', async () => {
    const four = await open(4);
    const [first] = four as [NetworkHost];
    for (let round = 0; round < 5; round++) {
      const network = await createBound(first, 'd0');
      for (const [n, host] of four.entries()) await host.bindings.bind(`d${n}`, network, BOUND);
      for (const host of four) await until(() => host.engine.mirror.bindings(network.record.id).length === 4);
      await Promise.all(four.map((host, n) => host.bindings.unbind(`d${n}`)));
      expect(await etcd.keys(prefix)).toEqual([]);
    }
  });

  it('goes when the lease of its pending binding expires', async () => {
    const [a, b] = await open(2);
    const id = newNetworkId();
    const pending = await a.bindings.pendingWrite(id);
    await a.create({ id, origin: 'docker', also: () => [pending] });
    const { record } = await b.networks.get(id);
    await expect(b.networks.remove(record.id)).rejects.toMatchObject({ kind: 'conflict' });
    const lease = 'lease' in pending ? BigInt(pending.lease as string).toString(16) : '';
    await etcd.ctl('lease', 'revoke', lease);
    await until(async () => (await etcd.keys(prefix)).length === 0, { what: 'the network is gone' });
  });

  it('goes when its host comes back after the pending binding expired', async () => {
    const [a] = await open(1);
    const id = newNetworkId();
    const pending = await a.bindings.pendingWrite(id);
    await a.create({ id, origin: 'docker', also: () => [pending] });
    await a[Symbol.asyncDispose]();
    hosts = [];
    await etcd.ctl(
      'lease',
      'revoke',
      BigInt('lease' in pending ? (pending.lease as string) : 0).toString(16),
    );
    expect(await etcd.keys(`${prefix}/network/`)).toHaveLength(1);
    await open(1);
    await until(async () => (await etcd.keys(prefix)).length === 0, { what: 'the network is gone' });
  });

  it('stays while another host has been promised it', async () => {
    const [a, b] = await open(2);
    const network = await createBound(a, 'on-a');
    await b.bindings.promise(await b.networks.get(network.record.id));
    await a.bindings.unbind('on-a');
    expect(await etcd.get(`${prefix}/network/${network.record.id}`)).toBeDefined();
    await b.bindings.bind('on-b', network, BOUND);
    expect(await etcd.keys(`${prefix}/network.bindings/`)).toHaveLength(1);
    await b.bindings.unbind('on-b');
    expect(await etcd.keys(prefix)).toEqual([]);
  });

  it('is reshaped only while nobody else knows of it', async () => {
    const [a, b] = await open(2);
    const id = newNetworkId();
    const pending = await a.bindings.pendingWrite(id);
    const network = await a.create({ id, origin: 'docker', also: () => [pending] });
    await a.networks.reshape(network, { gateway: '10.0.0.254/24' as never }, pending.put);
    expect(await stored(`${prefix}/network/${id}`)).toMatchObject({ gateway: '10.0.0.254/24' });
    const taken = await a.engine.reservations.reserve(network, 'lowest');
    expect(taken).toBe('10.0.0.1/24');
    await expect(
      a.networks.reshape(network, { gateway: '10.0.0.1/24' as never }, pending.put),
    ).rejects.toMatchObject({ kind: 'conflict' });
    await b.bindings.promise(await b.networks.get(id));
    await until(() => a.engine.mirror.bindings(id).length === 2);
    await expect(a.networks.reshape(network, { mtu: 1300 }, pending.put)).rejects.toMatchObject({
      kind: 'conflict',
    });
  });
});
