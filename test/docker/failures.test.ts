import { pluginCall } from '../support/agent-process.js';
import { errorOf } from '../support/docker-calls.js';
import type { DockerHost } from '../support/docker-host.js';
import { snapshot, untilNothingLeft } from '../support/leftovers.js';
import { addressIn, createNamed, removeContainers, runSleeper, SandLab } from '../support/sand-lab.js';
import { until } from '../support/until.js';

const UNKNOWN = '6ffc3990-b212-47f2-a5d1-2afe7526e548';
const GATEWAY = { RequestAddressType: 'com.docker.network.gateway' };
const BIG = 'x'.repeat(1024 * 1024);

/** Bodies of each method that has arguments, as Docker sends them. */
const BODIES: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  'IpamDriver.RequestPool': { AddressSpace: 'sandlocal', Pool: '', SubPool: '', Options: {}, V6: false },
  'IpamDriver.ReleasePool': { PoolID: UNKNOWN },
  'IpamDriver.RequestAddress': { PoolID: UNKNOWN, Address: '', Options: null },
  'IpamDriver.ReleaseAddress': { PoolID: UNKNOWN, Address: '10.0.0.9' },
  'NetworkDriver.CreateNetwork': {
    NetworkID: 'n',
    Options: {
      'com.docker.network.enable_ipv6': false,
      'com.docker.network.generic': { 'sand-name': 'bad' },
    },
    IPv4Data: [{ AddressSpace: 'null', Gateway: '', Pool: '0.0.0.0/0' }],
    IPv6Data: [],
  },
  'NetworkDriver.DeleteNetwork': { NetworkID: 'n' },
  'NetworkDriver.CreateEndpoint': {
    NetworkID: 'n',
    EndpointID: 'e',
    Interface: { Address: '10.0.0.9/24', AddressIPv6: '', MacAddress: '' },
    Options: {},
  },
  'NetworkDriver.DeleteEndpoint': { NetworkID: 'n', EndpointID: 'e' },
  'NetworkDriver.Join': { NetworkID: 'n', EndpointID: 'e', SandboxKey: '/run/docker/netns/x', Options: {} },
  'NetworkDriver.Leave': { NetworkID: 'n', EndpointID: 'e' },
  'NetworkDriver.EndpointOperInfo': { NetworkID: 'n', EndpointID: 'e' },
  'NetworkDriver.ProgramExternalConnectivity': { NetworkID: 'n', EndpointID: 'e', Options: {} },
  'NetworkDriver.RevokeExternalConnectivity': { NetworkID: 'n', EndpointID: 'e' },
};
const METHODS = Object.keys(BODIES);
const IDS = METHODS.flatMap(method =>
  ['PoolID', 'NetworkID', 'EndpointID', 'SandboxKey', 'Address']
    .filter(
      field =>
        field in (BODIES[method] ?? {}) && !(method === 'IpamDriver.RequestAddress' && field === 'Address'),
    )
    .map(field => [method, field] as const),
);

describe('failures', () => {
  let sand: SandLab;
  let one: DockerHost;
  let two: DockerHost;
  beforeAll(async () => {
    sand = await SandLab.start();
    [one, two] = [sand.host(1), sand.host(2)];
  });
  afterAll(() => sand?.stop());

  const call = (method: string, body?: unknown) => pluginCall(one, method, body);

  describe('bad input', () => {
    let keys: Map<string, string>;
    let pool: string;
    beforeAll(async () => {
      await createNamed(one, 'base', '--subnet', '10.50.0.0/24');
      await runSleeper(one, 'living', '--network=base');
      pool = (await sand.network('base')).id;
      // Where its namespace is follows into the container's record a second later.
      keys = await until(
        async () => {
          const entries = await sand.etcd.entries('/');
          return [...entries.values()].some(value => value.includes('"/run/docker/netns/')) && entries;
        },
        { what: 'the sandbox is recorded' },
      );
    });
    afterAll(async () => {
      await removeContainers(one, 'living');
      await one.docker('network', 'rm', 'base');
    });
    /** Nothing in etcd has changed, and the agent is the same and serves. */
    afterEach(async () => {
      expect(await sand.etcd.entries('/')).toEqual(keys);
      expect(sand.agent(1).running).toBe(true);
      expect((await call('Plugin.Activate')).body).toEqual({ Implements: ['NetworkDriver', 'IpamDriver'] });
    });

    it.each(METHODS)('%s refuses an empty body, malformed JSON and what is no object', async method => {
      expect(errorOf(await call(method))).toContain(`The body of ${method} is empty`);
      expect(errorOf(await call(method, '{"NetworkID": "n"'))).toContain(`The body of ${method} is not JSON`);
      for (const body of ['[]', 'null', '7', '"n"'])
        expect(errorOf(await call(method, body))).toContain('body');
    });

    it.each(IDS)('%s refuses a %s that is missing, no string, empty or 1 MB', async (method, field) => {
      const { [field]: _, ...missing } = BODIES[method] ?? {};
      for (const body of [
        missing,
        { ...missing, [field]: 7 },
        { ...missing, [field]: ['n'] },
        { ...missing, [field]: null },
        { ...missing, [field]: '' },
      ]) {
        expect(errorOf(await call(method, body))).toContain(field);
      }
      expect(errorOf(await call(method, { ...missing, [field]: BIG }))).toContain('body');
    });

    const network = (change: object) => ({ ...BODIES['NetworkDriver.CreateNetwork'], ...change });
    const generic = (options: unknown) => network({ Options: { 'com.docker.network.generic': options } });
    const ipv4 = (Pool: unknown, Gateway: unknown = '', more = {}) =>
      network({ IPv4Data: [{ AddressSpace: 'LocalDefault', Pool, Gateway, ...more }] });
    const endpoint = (Interface: unknown) => ({ ...BODIES['NetworkDriver.CreateEndpoint'], Interface });
    it.each([
      [
        'RequestPool',
        'a range with host bits',
        { Pool: '10.0.0.1/24' },
        /Pool .*10\.0\.0\.1\/24.*10\.0\.0\.0\/24/,
      ],
      ['RequestPool', 'a range without a length', { Pool: '10.0.0.0' }, /Pool/],
      ['RequestPool', 'a prefix of 33', { Pool: '10.0.0.0/33' }, /Pool/],
      ['RequestPool', 'an IPv6 range', { Pool: 'fd00::/64' }, /Pool.*IPv6 is not supported/],
      ['RequestPool', 'V6', { Pool: '', V6: true }, /IPv6 is not supported/],
      ['RequestPool', 'V6 that is a text', { V6: 'no' }, /V6/],
      ['RequestPool', 'a range that is a number', { Pool: 10 }, /Pool/],
      ['RequestPool', 'options that are a list', { Options: ['sand-id'] }, /Options/],
      ['RequestPool', 'an option that is a number', { Options: { 'sand-id': 7 } }, /Options\.sand-id/],
      ['RequestPool', 'an id that is no UUID', { Options: { 'sand-id': '../x' } }, /sand-id/],
      ['RequestPool', 'a name with a slash', { Options: { 'sand-name': 'a/b' } }, /sand-name/],
      ['RequestPool', 'an option nobody knows', { Options: { color: 'red' } }, /color/],
      ['RequestAddress', 'a pool of no network', { PoolID: UNKNOWN }, new RegExp(UNKNOWN)],
      ['RequestAddress', 'a pool that is no UUID', { PoolID: 'pool-1' }, /PoolID/],
      ['RequestAddress', 'an address that is none', { PoolID: 'POOL', Address: '10.0.0' }, /Address/],
      ['RequestAddress', 'an address with a length', { PoolID: 'POOL', Address: '10.50.0.9/24' }, /Address/],
      ['RequestAddress', 'an IPv6 address', { PoolID: 'POOL', Address: 'fd00::9' }, /Address.*IPv6/],
      [
        'RequestAddress',
        'an address outside the range',
        { PoolID: 'POOL', Address: '10.51.0.9' },
        /10\.51\.0\.9.*10\.50\.0\.0\/24/,
      ],
      [
        'RequestAddress',
        'the broadcast address',
        { PoolID: 'POOL', Address: '10.50.0.255' },
        /10\.50\.0\.255/,
      ],
      [
        'RequestAddress',
        'a gateway outside the range',
        { PoolID: 'POOL', Address: '10.51.0.1', Options: GATEWAY },
        /gateway/,
      ],
      ['RequestAddress', 'options that are a text', { PoolID: 'POOL', Options: 'gateway' }, /Options/],
      ['ReleaseAddress', 'an address that is none', { PoolID: 'POOL', Address: 'everything' }, /Address/],
      ['CreateNetwork', 'a range with host bits', ipv4('10.0.0.1/24'), /IPv4Data\.Pool/],
      ['CreateNetwork', 'a range that is a number', ipv4(10), /IPv4Data\.0\.Pool/],
      [
        'CreateNetwork',
        'a gateway outside the range',
        ipv4('10.0.0.0/24', '10.1.0.1/24'),
        /gateway.*10\.1\.0\.1/i,
      ],
      [
        'CreateNetwork',
        'a gateway of another length',
        ipv4('10.0.0.0/24', '10.0.0.1/16'),
        /gateway.*10\.0\.0\.1\/16/i,
      ],
      [
        'CreateNetwork',
        'an aux address that is none',
        ipv4('10.0.0.0/24', '', { AuxAddresses: { a: 'x' } }),
        /AuxAddresses/,
      ],
      [
        'CreateNetwork',
        'an aux address that is a number',
        ipv4('10.0.0.0/24', '', { AuxAddresses: { a: 7 } }),
        /AuxAddresses/,
      ],
      ['CreateNetwork', 'no pool', network({ IPv4Data: [] }), /IPv4Data/],
      ['CreateNetwork', 'pools that are no list', network({ IPv4Data: 'x' }), /IPv4Data/],
      [
        'CreateNetwork',
        'an IPv6 pool',
        network({ IPv6Data: [{ Pool: 'fd00::/64' }] }),
        /IPv6 is not supported/,
      ],
      ['CreateNetwork', 'options that are a list', network({ Options: [] }), /Options/],
      [
        'CreateNetwork',
        'an internal that is a text',
        network({ Options: { 'com.docker.network.internal': 'yes' } }),
        /internal/,
      ],
      [
        'CreateNetwork',
        '--opt values that are a text',
        generic('sand-name'),
        /com\.docker\.network\.generic/,
      ],
      ['CreateNetwork', 'an --opt that is a number', generic({ 'sand-name': 7 }), /sand-name/],
      ['CreateNetwork', 'an --opt that nobody knows', generic({ color: 'red' }), /color/],
      ['CreateNetwork', 'an MTU of 10', generic({ 'com.docker.network.driver.mtu': '10' }), /mtu is "10"/],
      ['CreateEndpoint', 'a network that nobody bound', { NetworkID: 'nobody' }, /nobody/],
      ['CreateEndpoint', 'an interface that is a text', endpoint('eth0'), /Interface/],
      ['CreateEndpoint', 'an address that is a number', endpoint({ Address: 7 }), /Interface\.Address/],
      ['CreateEndpoint', 'an IPv6 address', endpoint({ AddressIPv6: 'fd00::9/64' }), /IPv6 is not supported/],
      ['CreateEndpoint', 'a MAC that is none', endpoint({ MacAddress: 'zz' }), /MacAddress/],
      ['CreateEndpoint', 'a multicast MAC', endpoint({ MacAddress: '01:00:5e:00:00:01' }), /MacAddress/],
      ['CreateEndpoint', 'a driver option', { Options: { color: 'red' } }, /color/],
      ['Join', 'an endpoint that does not exist', {}, /\bn\b/],
    ] as const)('%s refuses %s', async (method, _, change, text) => {
      const name = METHODS.find(each => each.endsWith(`.${method}`)) ?? method;
      const body = { ...BODIES[name], ...change } as { PoolID?: string };
      if (body.PoolID === 'POOL') body.PoolID = pool;
      expect(errorOf(await call(name, body))).toMatch(text);
    });

    it('an address without its mask and an id with a slash are refused on a network that exists', async () => {
      const [{ Id: NetworkID } = { Id: '' }] = await one.dockerJson<{ Id: string }[]>(
        'network',
        'inspect',
        'base',
      );
      const body = (EndpointID: string, Address: string) => ({
        NetworkID,
        EndpointID,
        Interface: { Address },
      });
      const create = (id: string, address: string) => call('NetworkDriver.CreateEndpoint', body(id, address));
      expect(errorOf(await create('e1', '10.50.0.9'))).toContain('Interface.Address');
      expect(errorOf(await create('e1', ''))).toContain('Interface.Address');
      expect(errorOf(await create('../../e1', '10.50.0.9/24'))).toContain('EndpointID');
      expect(errorOf(await create('e1', '10.50.0.9/24'))).toContain('10.50.0.9'); // never requested
      const join = { NetworkID, EndpointID: 'e1', SandboxKey: '/run/docker/netns/x' };
      expect(errorOf(await call('NetworkDriver.Join', join))).toContain('e1');
    });

    it('a CreateNetwork that comes again makes nothing more, and one that means another network is refused', async () => {
      const [{ Id: NetworkID } = { Id: '' }] = await one.dockerJson<{ Id: string }[]>(
        'network',
        'inspect',
        'base',
      );
      const create = (options: object) =>
        call('NetworkDriver.CreateNetwork', {
          ...{ NetworkID, Options: { 'com.docker.network.generic': options } },
          ...{ IPv4Data: [{ AddressSpace: 'null', Pool: '0.0.0.0/0' }], IPv6Data: [] },
        });
      const again = await Promise.all([
        create({}),
        create({ 'sand-name': 'base' }),
        create({ 'sand-id': pool }),
      ]);
      expect(again.map(({ body }) => body)).toEqual([{}, {}, {}]);
      expect(errorOf(await create({ 'sand-name': 'other' }))).toContain('bound');
    });

    it('an unknown method is 404, with a text', async () => {
      for (const method of ['NetworkDriver.Nothing', 'constructor', '', 'IpamDriver.__proto__']) {
        const { status, body } = await call(method, {});
        expect({ status, body }).toEqual({
          status: 404,
          body: expect.objectContaining({ Err: expect.any(String) }),
        });
      }
    });

    it.each([
      ['IpamDriver.ReleasePool', { PoolID: 'nobody' }],
      ['IpamDriver.ReleasePool', { PoolID: UNKNOWN }],
      ['IpamDriver.ReleaseAddress', { PoolID: UNKNOWN, Address: '10.0.0.9' }],
      ['IpamDriver.ReleaseAddress', { PoolID: 'nobody', Address: '10.0.0.9' }],
      ['NetworkDriver.DeleteNetwork', { NetworkID: 'nobody' }],
      ['NetworkDriver.DeleteEndpoint', { NetworkID: 'nobody', EndpointID: 'nobody' }],
      ['NetworkDriver.Leave', { NetworkID: 'nobody', EndpointID: 'nobody' }],
      ['NetworkDriver.RevokeExternalConnectivity', { NetworkID: 'nobody', EndpointID: 'nobody' }],
    ])('%s of %j, which does not exist, is success', async (method, body) => {
      expect(await call(method, body)).toMatchObject({ status: 200, body: {} });
      expect((await call(method, body)).body).toEqual({});
    });

    it('the release of an address that a container bears, and of the gateway, changes nothing', async () => {
      const address = await addressIn(one, 'living', 'base');
      for (const Address of [address, '10.50.0.1']) {
        expect((await call('IpamDriver.ReleaseAddress', { PoolID: pool, Address })).body).toEqual({});
      }
    });
  });

  describe('on the docker command line', () => {
    afterEach(async () => {
      for (const host of [one, two]) {
        const names = await host.docker('ps', '--all', '--quiet');
        await removeContainers(host, ...names.split('\n').filter(Boolean));
        await host.runDocker(['network', 'rm', 'n']);
      }
      await until(async () => (await sand.etcd.keys('/')).length === 0, { what: 'etcd is empty' });
    });

    it('the address of a living container of the other host is refused, and nothing is left of the attempt', async () => {
      for (const host of [one, two]) await createNamed(host, 'n', '--subnet', '10.52.0.0/24');
      await runSleeper(one, 'first', '--network=n', '--ip=10.52.0.9');
      const before = await snapshot(two, { etcd: sand.etcd });
      const { stderr } = await two.dockerFails(
        'run',
        '--rm',
        '--network=n',
        '--ip=10.52.0.9',
        'busybox',
        'true',
      );
      expect(stderr).toMatch(
        /Address 10\.52\.0\.9 of network \S+ is taken by endpoint \S+ of host \S+; choose another/,
      );
      expect(stderr).toContain(one.name);
      await untilNothingLeft(two, before, { etcd: sand.etcd });
    });

    it.each([
      ['/30', 'sand', 1],
      ['/29', 'sand', 5],
      ['/30', 'null', 1],
    ])(
      'the pool of a %s with --ipam-driver %s ends after %i containers, with a text that says so',
      async (prefix, ipam, count) => {
        // Docker takes no --subnet with the null driver: the first host gives the network its range
        await createNamed(one, 'n', '--subnet', `10.53.0.0${prefix}`);
        if (ipam === 'sand') await createNamed(two, 'n');
        else
          await two.docker(
            'network',
            'create',
            '-d',
            'sand',
            '--ipam-driver',
            'null',
            '--opt',
            'sand-name=n',
            'n',
          );
        const hosts = Array.from({ length: count }, (_, index) => (index % 2 === 0 ? one : two));
        await Promise.all(hosts.map((host, index) => runSleeper(host, `n${index}`, '--network=n')));
        const before = await snapshot(two, { etcd: sand.etcd });
        const { stderr, status, ms } = await two.dockerFails(
          'run',
          '--network=n',
          '--name=toomany',
          'busybox',
          'true',
        );
        expect(status).toBe(125);
        expect(stderr).toMatch(new RegExp(`10\\.53\\.0\\.0${prefix}`));
        expect(stderr).toMatch(/no free address|exhausted|full|all .* taken/i);
        expect(ms).toBeLessThan(5_000);
        await untilNothingLeft(two, before, { etcd: sand.etcd });
        await removeContainers(one, 'n0');
        await two.docker('start', '--attach', 'toomany');
      },
    );
  });
});
