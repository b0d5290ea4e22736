import { type AgentProcess, pluginCall } from '../support/agent-process.js';
import type { DockerHost } from '../support/docker-host.js';
import { type Snapshot, snapshot, untilNothingLeft } from '../support/leftovers.js';
import type { LegacyProcess } from '../support/legacy-process.js';
import { type LegacyEndpoint, legacyEndpoint } from '../support/legacy-records.js';
import {
  addressOf,
  createById,
  FRESH_BITS,
  identityOf,
  MovingLab,
  untilAdopted,
} from '../support/moving-lab.js';
import { addressIn, netnsOf, ping, removeContainers, runSleeper } from '../support/sand-lab.js';
import { SteadyPing } from '../support/steady-ping.js';
import { SteadyStream } from '../support/steady-stream.js';
import { until } from '../support/until.js';

/** Docker keeps the original's address until it is restarted. */
const TCP = { ENABLE_DOCKER_PLUGIN: 'true' };

describe('a Docker host moves over while its containers run', () => {
  let lab: MovingLab;
  let one: DockerHost;
  let two: DockerHost;
  let ours: AgentProcess;
  let id: string;
  let remote: string;
  let clean: Snapshot;
  const old = ['stay', 'removed', 'restarted', 'detached', 'offline', 'unseen'] as const;
  /** Addresses that the original gave to containers, by name. */
  const given = new Map<string, string>();
  /** Taken from the original by a call of Docker's that it answered last. */
  let between: string;

  beforeAll(async () => {
    lab = await MovingLab.start();
    [one, two] = [lab.host(1), lab.host(2)];
    const [legacy] = await Promise.all([lab.startLegacy(1, 'http'), lab.startLegacy(2, 'http')]);
    id = lab.newId();
    await legacy.createNetwork(id);
    for (const host of [one, two]) await createById(host, 'shop', id);
    await one.docker('run', '--rm', '--network=shop', 'busybox', 'true'); // Docker makes its gateway bridge for good
    clean = await snapshot(one);
    await runSleeper(two, 'remote', '--network=shop');
    for (const name of old) await runSleeper(one, name, '--network=shop');
    remote = await addressIn(two, 'remote', 'shop');
    for (const name of old) given.set(name, await addressIn(one, name, 'shop'));
    await makeInFlight(legacy);
    await moveOver(() => legacy.stop());
  }, 60_000);
  afterAll(() => lab?.stop());

  const bitOf = (address: string) => Number(address.split('.')[3]);
  const bits = () => lab.bits(id);
  const endpoints = async () => (await lab.endpoints(id)).map(addressOf).sort();
  const dockerEndpoints = () => lab.etcd.keys('/sc-net/docker-endpoints/');
  /** No interface of either agent is left in the host's own namespace. */
  /** Later than at once: etcd was away. */
  async function untilReturned(address: string): Promise<void> {
    const timeoutMs = 15_000;
    const hasRecord = async () => (await endpoints()).includes(address);
    await until(async () => !(await hasRecord()), { what: 'the record is gone', timeoutMs });
    const isTaken = async () => (await bits()).includes(bitOf(address));
    await until(async () => !(await isTaken()), { what: 'the bit is clear', timeoutMs });
  }

  const untilHostIsClean = () =>
    until(async () => (await snapshot(one)).links.every(name => !/^(s|x)and/.test(name)), {
      what: 'host is clean',
    });
  const moved: {
    lost: number[][];
    whole: boolean;
    before: unknown;
    after: unknown;
    records: LegacyEndpoint[][];
  } = {
    lost: [],
    whole: false,
    before: undefined,
    after: undefined,
    records: [],
  };

  /** What Docker has begun with the original and will go on with at ours. */
  async function makeInFlight(legacy: LegacyProcess): Promise<void> {
    const request = () =>
      legacy.dockerCall<{ Address: string }>('IpamDriver.RequestAddress', { PoolID: id, Address: '' });
    between = (await request()).Address;
    const { Address } = await request();
    given.set('joining', Address.split('/')[0] ?? '');
    given.set('creating', (await request()).Address);
    const [network] = await one.dockerJson<[{ Id: string }]>('network', 'inspect', 'shop');
    await legacy.dockerCall('NetworkDriver.CreateEndpoint', {
      NetworkID: network.Id,
      EndpointID: 'joining',
      Interface: { Address, AddressIPv6: '', MacAddress: '' },
      Options: {},
    });
  }

  async function moveOver(stopLegacy: () => Promise<void>): Promise<void> {
    const stay = given.get('stay') ?? '';
    await using outwards = await SteadyPing.start(one, 'stay', remote);
    await using inwards = await SteadyPing.start(two, 'remote', stay);
    const [from, to] = [await netnsOf(one, 'stay'), await netnsOf(two, 'remote')];
    await using stream = await SteadyStream.start(
      { host: one, netns: from },
      { host: two, netns: to, address: remote },
    );
    moved.before = await identityOf(one, id);
    moved.records.push(await lab.endpoints(id));
    await stopLegacy();
    ours = await lab.startOurs(1, TCP);
    await untilAdopted(one, id);
    moved.lost.push(await outwards.lost(), await inwards.lost());
    moved.whole = await stream.isWhole();
    moved.after = await identityOf(one, id);
    moved.records.push(await lab.endpoints(id));
  }

  it('loses no packet and makes nothing anew', () => {
    expect(moved.lost).toEqual([[], []]);
    expect(moved.whole).toBe(true);
    expect(moved.after).toEqual(moved.before);
  });

  it('adds to the records of its containers that they are Docker’s, and changes nothing else', async () => {
    const [before = [], after = []] = moved.records;
    const local = ({ hostname }: LegacyEndpoint) => hostname === one.name;
    expect(after).toEqual(
      before.map(record => {
        const docker = {
          endpoint_id: expect.anything(),
          network_id: expect.anything(),
          address_source: 'sand-ipam',
        };
        return local(record) ? { ...record, docker } : record;
      }),
    );
  });

  it('`docker rm -f` of a container of before: record, keys, interface and bit are gone, also on the other host', async () => {
    const address = given.get('removed') ?? '';
    const keys = await dockerEndpoints();
    await removeContainers(one, 'removed');
    expect(await endpoints()).not.toContain(address);
    expect(await dockerEndpoints()).toHaveLength(keys.length - 1);
    expect(await bits()).not.toContain(bitOf(address));
    expect(await lab.etcd.keys(`/sc-net/address-owners/${id}/`)).toEqual([]);
    await untilHostIsClean();
  });

  it('`docker restart` of a container of before gives it a working interface', async () => {
    await one.docker('restart', '--time', '0', 'restarted');
    const address = await addressIn(one, 'restarted', 'shop');
    await ping(one, 'restarted', remote);
    await ping(two, 'remote', address);
    await ping(one, 'stay', address);
  });

  it('`network disconnect` and `connect` of a container of before', async () => {
    await one.docker('network', 'disconnect', 'shop', 'detached');
    expect(await endpoints()).not.toContain(given.get('detached'));
    await one.docker('network', 'connect', 'shop', 'detached');
    await ping(two, 'remote', await addressIn(one, 'detached', 'shop'));
  });

  it('a new container on the network of before', async () => {
    await runSleeper(one, 'new', '--network=shop');
    await ping(one, 'new', remote);
    await ping(one, 'new', given.get('stay') ?? '');
    await ping(two, 'remote', await addressIn(one, 'new', 'shop'));
  });

  it('a container that was being joined when the agent changed', async () => {
    const [network] = await one.dockerJson<[{ Id: string }]>('network', 'inspect', 'shop');
    const call = { NetworkID: network.Id, EndpointID: 'joining' };
    const joined = await pluginCall(one, 'NetworkDriver.Join', {
      ...call,
      SandboxKey: '/run/docker/netns/x',
      Options: {},
    });
    const { InterfaceName } = joined.body as { InterfaceName?: { SrcName: string } };
    const links = await one.json<{ ifname: string }[]>([
      'ip',
      '-j',
      'link',
      'show',
      'dev',
      InterfaceName?.SrcName ?? '',
    ]);
    expect(links).toHaveLength(1);
    expect((await pluginCall(one, 'NetworkDriver.Leave', call)).body).toEqual({});
    expect((await pluginCall(one, 'NetworkDriver.DeleteEndpoint', call)).body).toEqual({});
    const address = given.get('joining') ?? '';
    expect(
      (await pluginCall(one, 'IpamDriver.ReleaseAddress', { PoolID: id, Address: address })).body,
    ).toEqual({});
    expect(await bits()).not.toContain(bitOf(address));
    await untilHostIsClean();
  });

  it('ReleaseAddress clears a bit without an owner, and none that an endpoint of any host bears', async () => {
    const release = (address: string) =>
      pluginCall(one, 'IpamDriver.ReleaseAddress', { PoolID: id, Address: address });
    const [address = ''] = between.split('/');
    expect(await bits()).toContain(bitOf(address));
    expect((await release(address)).body).toEqual({});
    expect(await bits()).not.toContain(bitOf(address));
    await release(remote);
    await release(given.get('stay') ?? '');
    expect(await bits()).toEqual(expect.arrayContaining([remote, given.get('stay') ?? ''].map(bitOf)));
    const owners = await lab.etcd.keys(`/sc-net/address-owners/${id}/`);
    expect(owners.map(key => key.split('/').at(-1))).not.toContain(address);
  });

  it('a container of before that goes while etcd is away', async () => {
    const address = given.get('offline') ?? '';
    lab.etcd.pause();
    try {
      await removeContainers(one, 'offline');
      await untilHostIsClean();
    } finally {
      lab.etcd.resume();
    }
    await untilReturned(address);
    await untilHostIsClean();
  }, 120_000);

  it('a container of before that goes before a new agent has seen etcd', async () => {
    const address = given.get('unseen') ?? '';
    await ours.stop();
    lab.etcd.pause();
    try {
      ours = await lab.startOurs(1, TCP);
      await removeContainers(one, 'unseen');
    } finally {
      lab.etcd.resume();
    }
    await untilReturned(address);
    await untilHostIsClean();
  }, 120_000);

  it('a container whose address the original gave, and whose endpoint ours makes', async () => {
    const [network] = await one.dockerJson<[{ Id: string }]>('network', 'inspect', 'shop');
    const call = { NetworkID: network.Id, EndpointID: 'created' };
    const Address = given.get('creating') ?? '';
    const Interface = { Address, AddressIPv6: '', MacAddress: '' };
    const made = await pluginCall(one, 'NetworkDriver.CreateEndpoint', { ...call, Interface, Options: {} });
    expect(made.body).toMatchObject({ Interface: { MacAddress: expect.stringMatching(/^02:84:/) } });
    const [address = ''] = Address.split('/');
    expect(await endpoints()).toContain(address);
    expect((await pluginCall(one, 'NetworkDriver.DeleteEndpoint', call)).body).toEqual({});
    expect(
      (await pluginCall(one, 'IpamDriver.ReleaseAddress', { PoolID: id, Address: address })).body,
    ).toEqual({});
    expect(await bits()).not.toContain(bitOf(address));
  });

  it('an endpoint of before that is seen by nothing but its key, and a key without an endpoint', async () => {
    const call = { NetworkID: 'any', EndpointID: 'lonely' };
    const key = '/sc-net/docker-endpoints/lonely';
    const value = {
      DockerNetworkID: 'any',
      SandNetworkID: id,
      DockerEndpointID: 'lonely',
      SandEndpointID: lab.newId(),
    };
    await lab.etcd.ctl('put', key, JSON.stringify(value));
    expect((await pluginCall(one, 'NetworkDriver.Leave', call)).body).toEqual({});
    expect((await pluginCall(one, 'NetworkDriver.DeleteEndpoint', call)).body).toEqual({});
    expect(await lab.etcd.get(key)).toBeUndefined();

    const record = legacyEndpoint(id, { hostname: one.name, ip: one.address }, '10.0.0.200/24');
    const text = JSON.stringify(record).replace('02:84:0a:00:00:c8', '02:84:0A:00:00:C8');
    await lab.etcd.ctl('put', key, JSON.stringify({ ...value, SandEndpointID: record.id }));
    await lab.etcd.ctl('put', `/sc-net/node-endpoints/${one.name}/${record.id}`, text);
    await lab.etcd.ctl('put', `/sc-net/network-endpoints/${id}/${record.id}`, text);
    expect((await pluginCall(one, 'NetworkDriver.DeleteEndpoint', call)).body).toEqual({});
    expect(await endpoints()).not.toContain('10.0.0.200');
    expect(await lab.etcd.get(key)).toBeUndefined();
  });

  it('a restart of dockerd, which ends the containers of before, and starts one again', async () => {
    await one.docker('update', '--restart=always', 'stay');
    await one.restartDockerd();
    await until(() => addressIn(one, 'stay', 'shop'), { what: 'the container is up again' });
    await ping(one, 'stay', remote);
    await ping(two, 'remote', await addressIn(one, 'stay', 'shop'));
  }, 120_000);

  it('leaves no key, no bit and no interface in the end', async () => {
    await removeContainers(one, ...(await one.docker('ps', '--all', '--format', '{{.Names}}')).split('\n'));
    await one.docker('network', 'rm', 'shop');
    await untilNothingLeft(one, clean);
    expect(await endpoints()).toEqual([remote]);
    const keys = (await lab.etcd.keys('/sc-net/')).map(key => key.slice('/sc-net/'.length));
    const hostname = one.name;
    expect(keys.filter(key => key.includes(hostname))).toEqual([]);
    expect(keys.filter(key => key.startsWith('docker-'))).toHaveLength(2);
    await removeContainers(two, 'remote');
    await two.docker('network', 'rm', 'shop');
    expect((await lab.etcd.keys('/')).sort()).toEqual([`/sc-net/ipalloc/${id}`, `/sc-net/network/${id}`]);
    expect(await bits()).toEqual(FRESH_BITS);
    expect((await ours.log()).split('\n').filter(line => / ERROR /.test(line))).toEqual([]);
  }, 60_000);
});
