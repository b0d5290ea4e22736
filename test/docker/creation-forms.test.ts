import { fileURLToPath } from 'node:url';
import { DATA_PLANES } from '../../model/data-plane.js';
import { ON_BRIDGE } from '../support/data-plane.js';
import type { DockerHost } from '../support/docker-host.js';
import {
  addressIn,
  createNamed,
  overlayPath,
  ping,
  removeContainers,
  runSleeper,
  SandLab,
} from '../support/sand-lab.js';
import { unixRequest } from '../support/unix-http.js';
import { until } from '../support/until.js';

const CLI = fileURLToPath(new URL('../../cli/main.js', import.meta.url));

/** `sand-agent-cli ARGS` on a host, as an operator types it there. */
const cli = (host: DockerHost, ...args: readonly string[]) =>
  host.exec([process.execPath, CLI, '--api-url', 'unix:///run/sand/api.sock', ...args]);

/** A network made by the command line; answers its id, as a script cuts it from the output. */
async function cliNetwork(host: DockerHost, ...args: readonly string[]): Promise<string> {
  const [head, line = ''] = (await cli(host, 'network-create', ...args)).split('\n');
  expect(head).toBe('New network created:');
  const match = /^\* id=([0-9a-f-]{36}) name=\S+ type=overlay ip-range=\S+, vni=\d+$/.exec(line);
  if (!match?.[1]) throw new Error(`No network in ${JSON.stringify(line)}`);
  return match[1];
}

const OURS = ['network', 'create', '--driver', 'sand', '--ipam-driver', 'sand'];
const DOCKERS = ['network', 'create', '--driver', 'sand'];
const twice = (option: string) => ['--opt', option, '--ipam-opt', option];

const devices = async (host: DockerHost, container: string) => {
  const text = await host.docker('exec', container, 'ls', '/sys/class/net');
  return text.split('\n').sort();
};

describe('docker network create', () => {
  let sand: SandLab;
  let one: DockerHost;
  let two: DockerHost;
  beforeAll(async () => {
    sand = await SandLab.start();
    [one, two] = [sand.host(1), sand.host(2)];
  });
  afterAll(() => sand?.stop());

  /** Each test ends with what every user does, and nothing may be left. */
  afterEach(async () => {
    for (const host of sand.lab.hosts) {
      const containers = await host.docker('ps', '--all', '--quiet');
      await removeContainers(host, ...containers.split('\n').filter(Boolean));
      const networks = await host.docker('network', 'ls', '--quiet', '--filter', 'driver=sand');
      for (const id of networks.split('\n').filter(Boolean)) await host.docker('network', 'rm', id);
    }
    const left = async () => (await sand.etcd.keys('/')).join(', ');
    await until(async () => (await left()) === '', { timeoutMs: 3_000, what: 'etcd is empty' }).catch(
      async () => {
        const keys = await left();
        await sand.etcd.ctl('del', '--prefix', '/');
        throw new Error(`left in etcd: ${keys}`);
      },
    );
  });

  /** What the command line made stays until somebody deletes it. */
  async function deleteNetworks(): Promise<void> {
    for (const { id } of await sand.networks()) {
      const socket = one.path('/run/sand/api.sock');
      const { status } = await unixRequest({ socket, method: 'DELETE', path: `/networks/${id}` });
      expect(status).toBe(204);
    }
  }

  async function reachEachOther(network: string): Promise<[string, string]> {
    await Promise.all([
      runSleeper(one, 'ca', `--network=${network}`),
      runSleeper(two, 'cb', `--network=${network}`),
    ]);
    const [a, b] = [await addressIn(one, 'ca', network), await addressIn(two, 'cb', network)];
    await ping(one, 'ca', b);
    await ping(two, 'cb', a);
    return [a, b];
  }

  it('--ipam-driver null --opt sand-name binds both hosts to one network; CreateEndpoint gives the addresses', async () => {
    const flags = [
      'network',
      'create',
      '--driver',
      'sand',
      '--ipam-driver',
      'null',
      '--opt',
      'sand-name=n',
      'n',
    ];
    await Promise.all([one.docker(...flags), two.docker(...flags)]);
    expect((await reachEachOther('n')).sort()).toEqual(['10.0.0.2', '10.0.0.3']);
    expect(await sand.networks()).toHaveLength(1);
  });

  it('--opt sand-id --ipam-opt sand-id binds to a network of the command line, which stays after network rm', async () => {
    const id = await cliNetwork(one, '--name', 'made', '--ip-range', '10.30.0.0/24');
    for (const host of [one, two]) await host.docker(...OURS, ...twice(`sand-id=${id}`), 'n');
    expect((await reachEachOther('n')).sort()).toEqual(['10.30.0.2', '10.30.0.3']);
    for (const [host, name] of [
      [one, 'ca'],
      [two, 'cb'],
    ] as const) {
      await removeContainers(host, name);
      await host.docker('network', 'rm', 'n');
    }
    expect(await cli(two, 'network-list')).toMatch(
      new RegExp(`^\\* \\[${id}\\] made \\(overlay VNI: \\d+\\)$`, 'm'),
    );
    await deleteNetworks();
  });

  it('--opt sand-name --ipam-opt sand-name on both hosts at once makes one network', async () => {
    await Promise.all([createNamed(one, 'race'), createNamed(two, 'race')]);
    expect(await sand.networks()).toHaveLength(1);
    expect(new Set(await reachEachOther('race'))).toEqual(new Set(['10.0.0.2', '10.0.0.3']));
  });

  it('a network that Docker made goes with its last binding', async () => {
    await Promise.all([createNamed(one, 'n'), createNamed(two, 'n')]);
    await one.docker('network', 'rm', 'n');
    expect(await sand.networks()).toHaveLength(1);
    await two.docker('network', 'rm', 'n');
    await until(async () => (await sand.networks()).length === 0, { what: 'the network is gone' });
  });

  it('neither id nor name: networks of their own, two at once with the same default range', async () => {
    await Promise.all([one.docker(...OURS, 'x'), one.docker(...OURS, 'y')]);
    const networks = await sand.networks();
    expect(networks.map(({ ip_range }) => ip_range)).toEqual(['10.0.0.0/24', '10.0.0.0/24']);
    expect(new Set(networks.map(({ vxlan_vni }) => vxlan_vni)).size).toBe(2);
    await Promise.all([runSleeper(one, 'ca', '--network=x'), runSleeper(one, 'cb', '--network=y')]);
    expect(await addressIn(one, 'ca', 'x')).toBe(await addressIn(one, 'cb', 'y'));
    await runSleeper(one, 'cc', '--network=x');
    await ping(one, 'ca', await addressIn(one, 'cc', 'x'));
  });

  it('neither id nor name: --subnet and --gateway are taken, and another host joins by the id', async () => {
    await one.docker(...OURS, '--subnet', '10.31.0.0/24', '--gateway', '10.31.0.254', 'n');
    const [network] = await sand.networks();
    expect(network).toMatchObject({ ip_range: '10.31.0.0/24', gateway: '10.31.0.254/24' });
    await two.docker(...OURS, ...twice(`sand-id=${network?.id}`), 'n');
    expect((await reachEachOther('n')).sort()).toEqual(['10.31.0.1', '10.31.0.2']);
  });

  it('--driver sand alone works on one host, with addresses of Docker’s own IPAM', async () => {
    await one.docker(...DOCKERS, 'n');
    await Promise.all([runSleeper(one, 'ca', '--network=n'), runSleeper(one, 'cb', '--network=n')]);
    const address = await addressIn(one, 'cb', 'n');
    await ping(one, 'ca', address);
    const [settings] = await one.dockerJson<{ IPAM: { Config: { Subnet: string }[] } }[]>(
      'network',
      'inspect',
      'n',
    );
    expect((await sand.networks())[0]?.ip_range).toBe(settings?.IPAM.Config[0]?.Subnet);
  });

  it('--driver sand alone on two hosts: an address of the other host is refused with the way out', async () => {
    const flags = [...DOCKERS, '--subnet', '10.32.0.0/24', '--opt', 'sand-name=n', 'n'];
    await one.docker(...flags);
    await two.docker(...flags);
    await runSleeper(one, 'ca', '--network=n');
    const { stderr } = await two.dockerFails('run', '--rm', '--network=n', 'busybox', 'true');
    expect(stderr).toContain('Address 10.32.0.2 of network');
    expect(stderr).toContain(`is taken by endpoint`);
    expect(stderr).toContain(one.name);
    expect(stderr).toContain('--ipam-driver sand');
    await ping(one, 'ca', '10.32.0.2');
  });

  describe('of the announcement', () => {
    it('is refused as it was printed, with the corrected command; that gives the announced result', async () => {
      const id = await cliNetwork(one);
      const option = `sand-id=${id}`;
      const literal = ['--driver', 'sand', '--opt', option, '--ipam-opt', 'sand', '--ipam-opt', option];
      const { stderr, ms } = await one.dockerFails('network', 'create', ...literal, 'my-overlay-network');
      const corrected = `docker network create --driver sand --ipam-driver sand --opt ${option} --ipam-opt ${option} NAME`;
      expect(stderr).toContain(corrected);
      expect(ms).toBeLessThan(5_000);
      await one.docker('network', 'create', '--ipam-driver', 'sand', ...literal, 'my-overlay-network');
      const said = await one.docker(
        'run',
        '--rm',
        '--network',
        'my-overlay-network',
        'busybox',
        'ip',
        'addr',
      );
      expect(said).toMatch(/^\d+: sand0@if\d+: <.*UP.*> mtu 1450 /m);
      expect(said).toMatch(/^ +link\/ether 02:84:0a:00:00:02 brd ff:ff:ff:ff:ff:ff/m);
      expect(said).toMatch(/^ +inet 10\.0\.0\.2\/24 brd 10\.0\.0\.255 scope global sand0/m);
      await one.docker('network', 'rm', 'my-overlay-network');
      expect((await sand.networks()).map(network => network.id)).toEqual([id]);
      await deleteNetworks();
    });
  });

  describe('with a shape', () => {
    const shape = ['--subnet', '10.33.0.0/24', '--gateway', '10.33.0.254'];
    const mtu = (value: number) => ['--opt', `com.docker.network.driver.mtu=${value}`];

    it('--subnet, --gateway and the MTU shape a new network and are agreed to by another host', async () => {
      await createNamed(one, 'n', ...shape, ...mtu(1300));
      await createNamed(two, 'n', ...shape, ...mtu(1300));
      expect(await sand.network('n')).toMatchObject({ ip_range: '10.33.0.0/24', gateway: '10.33.0.254/24' });
      const [a] = await reachEachOther('n');
      expect(a).toMatch(/^10\.33\.0\.[12]$/);
      for (const [host, name] of [
        [one, 'ca'],
        [two, 'cb'],
      ] as const) {
        const link = await host.docker('exec', name, 'cat', '/sys/class/net/sand0/mtu');
        expect(link).toBe('1300');
      }
    });

    it.each([
      ['range', ['--subnet', '10.34.0.0/24'], /has the range 10\.33\.0\.0\/24, not 10\.34\.0\.0\/24/],
      ['gateway', ['--subnet', '10.33.0.0/24', '--gateway', '10.33.0.9'], /has the gateway 10\.33\.0\.254/],
      ['MTU', mtu(1200), /has MTU 1300/],
      [
        'data plane',
        ['--opt', `sand-dataplane=${ON_BRIDGE ? 'macvlan' : 'bridge'}`],
        /has the data plane (bridge|macvlan); leave out sand-dataplane or give that/,
      ],
    ])('another %s than the network’s is refused', async (_, flags, text) => {
      await createNamed(one, 'n', ...shape, ...mtu(1300));
      const { stderr } = await two.dockerFails(...OURS, ...twice('sand-name=n'), ...flags, 'n');
      expect(stderr).toMatch(text);
      await createNamed(two, 'n');
      await reachEachOther('n');
    });

    it.each(DATA_PLANES)(
      '--opt sand-dataplane=%s is the network’s, for hosts that do not say, too',
      async plane => {
        await createNamed(one, 'n', '--opt', `sand-dataplane=${plane}`);
        await createNamed(two, 'n');
        await reachEachOther('n');
        for (const host of [one, two]) {
          const { id } = await sand.network('n');
          const links = await host.json<{ ifname: string }[]>(['ip', '-j', 'link'], {
            netns: overlayPath(id),
          });
          const names = links.map(({ ifname }) => ifname);
          expect(names).toContain(plane === 'bridge' ? 'br0' : 'gateway0');
        }
      },
    );

    it('a data plane that there is not is refused, and makes nothing', async () => {
      const flags = ['--opt', 'sand-dataplane=veth'];
      const { stderr } = await one.dockerFails(...OURS, ...twice('sand-name=n'), ...flags, 'n');
      expect(stderr).toContain('sand-dataplane is "veth"; it must be bridge or macvlan');
      expect((await sand.networks()).map(({ name }) => name)).not.toContain('n');
    });

    it('an MTU that the underlay does not carry is refused', async () => {
      const { stderr } = await one.dockerFails(...OURS, ...twice('sand-name=n'), ...mtu(9000), 'n');
      expect(stderr).toContain('MTU 9000 does not fit this host');
      expect(stderr).toContain('1450');
    });
  });

  it.each([
    ['--opt', ['--ipam-opt', 'sand-name=n'], /--opt is missing/],
    ['--ipam-opt', ['--opt', 'sand-name=n'], /--ipam-opt is missing/],
  ])('without its %s prints the command to type, which works', async (_, flags, text) => {
    const { stderr } = await one.dockerFails(...OURS, ...flags, 'n');
    expect(stderr).toMatch(text);
    const command = /docker (network create .*) NAME/.exec(stderr)?.[1] ?? 'no command';
    expect(command).toContain('--ipam-driver sand');
    // The pool of the refused attempt is given back first
    await one.docker(...command.split(' '), 'n');
    await runSleeper(one, 'ca', '--network=n');
    await ping(one, 'ca', await addressIn(one, 'ca', 'n'));
  });

  it('--aux-address may be the same on both hosts, and nobody gets it', async () => {
    const flags = ['--subnet', '10.35.0.0/24', '--aux-address', 'router=10.35.0.2'];
    await createNamed(one, 'n', ...flags);
    await createNamed(two, 'n', ...flags);
    expect((await reachEachOther('n')).sort()).toEqual(['10.35.0.3', '10.35.0.4']);
    const { stderr } = await one.dockerFails(
      'run',
      '--rm',
      '--network=n',
      '--ip=10.35.0.2',
      'busybox',
      'true',
    );
    expect(stderr).toContain('10.35.0.2');
  });

  it('--internal gives sand0 alone', async () => {
    for (const host of [one, two]) await createNamed(host, 'n', '--internal');
    await reachEachOther('n');
    expect(await devices(one, 'ca')).toEqual(['lo', 'sand0']);
  });

  it('--opt sand-egress=none gives sand0 alone and refuses -p', async () => {
    for (const host of [one, two]) await createNamed(host, 'n', '--opt', 'sand-egress=none');
    await reachEachOther('n');
    expect(await devices(one, 'ca')).toEqual(['lo', 'sand0']);
    const { stderr } = await one.dockerFails(
      'run',
      '--rm',
      '--network=n',
      '-p',
      '8081:80',
      'busybox',
      'true',
    );
    expect(stderr).toContain('sand-egress=none');
    expect(stderr).toContain('leave out -p');
  });

  it('containers reach the outside and publish ports through Docker’s gateway bridge', async () => {
    await createNamed(one, 'n');
    const serve = ['busybox', 'httpd', '-f', '-p', '80', '-h', '/etc'];
    await one.docker('run', '--detach', '--name', 'web', '--network=n', '-p', '8080:80', ...serve);
    expect(await devices(one, 'web')).toEqual(['eth0', 'lo', 'sand0']);
    // bash, since a static busybox looks for the machine's name services
    const request = `exec 3<>/dev/tcp/${one.address}/8080; printf 'GET /group HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3`;
    const page = () => two.exec(['bash', '-c', request], { timeoutMs: 3_000 });
    expect(await until(page, { what: 'the published port answers' })).toMatch(
      /^HTTP\/1\.[01] 200 OK[\s\S]*root:x:0:/,
    );
    await ping(one, 'web', two.address);
  });

  it.each([
    ['--ipv6', [...OURS, '--ipv6', '--subnet', 'fd00:6::/64', 'n'], /IPv6 is not supported yet/],
    [
      '--ipv6 with Docker’s IPAM',
      [...DOCKERS, '--ipv6', '--subnet', 'fd00:6::/64', 'n'],
      /IPv6 is not supported yet/,
    ],
    [
      '--ip-range',
      [...OURS, '--subnet', '10.36.0.0/24', '--ip-range', '10.36.0.128/25', 'n'],
      /--ip-range is not supported/,
    ],
    ['an unknown --opt', [...OURS, '--opt', 'sand-nam=x', 'n'], /--opt sand-nam is not known/],
    ['an unknown --ipam-opt', [...OURS, '--ipam-opt', 'sand-nam=x', 'n'], /--ipam-opt sand-nam is not known/],
    [
      'an MTU that is no number',
      [...OURS, '--opt', 'com.docker.network.driver.mtu=big', 'n'],
      /mtu is "big"/,
    ],
    [
      'an unknown egress',
      [...OURS, '--opt', 'sand-egress=nat', 'n'],
      /sand-egress is "nat"; it must be docker or none/,
    ],
    ['an id that is no id', [...OURS, ...twice('sand-id=shop'), 'n'], /sand-id is "shop"; it must be a UUID/],
    [
      'an id of no network',
      [...OURS, ...twice('sand-id=6ffc3990-b212-47f2-a5d1-2afe7526e548'), 'n'],
      /Network 6ffc3990-\S+ does not exist/,
    ],
    [
      'id and name',
      [...OURS, ...twice('sand-name=x'), ...twice('sand-id=6ffc3990-b212-47f2-a5d1-2afe7526e548'), 'n'],
      /both given/,
    ],
    [
      'two ranges',
      [...OURS, '--subnet', '10.37.0.0/24', '--subnet', '10.38.0.0/24', 'n'],
      /a SAND network has one IPv4 range/,
    ],
    ['a range above /30', [...OURS, '--subnet', '10.39.0.0/31', 'n'], /10\.39\.0\.0\/31/],
    ['a range below /8', [...OURS, '--subnet', '8.0.0.0/7', 'n'], /8\.0\.0\.0\/7/],
    [
      'the broadcast address as gateway',
      [...OURS, '--subnet', '10.39.0.0/24', '--gateway', '10.39.0.255', 'n'],
      /10\.39\.0\.255/,
    ],
  ])('%s is refused on the command line', async (_, args, text) => {
    const { stderr, ms } = await one.dockerFails(...args);
    expect(stderr).toMatch(text);
    expect(ms).toBeLessThan(5_000);
  });

  it('a name that two networks of an old cluster bear is refused with both ids', async () => {
    const ids = [await cliNetwork(one, '--name', 'twin'), await cliNetwork(one, '--name', 'twin')];
    const { stderr } = await two.dockerFails(...OURS, ...twice('sand-name=twin'), 'n');
    for (const id of ids) expect(stderr).toContain(id);
    await deleteNetworks();
  });
});
