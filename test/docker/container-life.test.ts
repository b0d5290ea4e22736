import { existsSync } from 'node:fs';
import type { DockerHost } from '../support/docker-host.js';
import {
  addressIn,
  createNamed,
  netnsOf,
  overlayPath,
  ping,
  removeContainers,
  runSleeper,
  SandLab,
} from '../support/sand-lab.js';
import { SteadyPing } from '../support/steady-ping.js';
import { until } from '../support/until.js';

describe('the life of a container', () => {
  let sand: SandLab;
  let one: DockerHost;
  let two: DockerHost;
  let remote: string;
  beforeAll(async () => {
    sand = await SandLab.start();
    [one, two] = [sand.host(1), sand.host(2)];
    for (const host of [one, two]) await createNamed(host, 'shop', '--subnet', '10.40.0.0/24');
    await runSleeper(two, 'remote', '--network=shop');
    remote = await addressIn(two, 'remote', 'shop');
  });
  afterAll(() => sand?.stop());
  afterEach(async () => {
    const names = await one.docker('ps', '--all', '--format', '{{.Names}}');
    await removeContainers(one, ...names.split('\n').filter(Boolean));
  });

  /** Addresses of all endpoints, as etcd has them. */
  const endpoints = async () => {
    const { id } = await sand.network('shop');
    const records = await sand.etcd.entries(`/sc-net/network-endpoints/${id}/`);
    return [...records.values()].map(value => String(JSON.parse(value).target_veth_ip).split('/')[0]).sort();
  };

  const devices = async (container: string) =>
    (await one.docker('exec', container, 'ls', '/sys/class/net')).split('\n').sort();

  it('--ip gives that address', async () => {
    await runSleeper(one, 'fixed', '--network=shop', '--ip=10.40.0.77');
    expect(await addressIn(one, 'fixed', 'shop')).toBe('10.40.0.77');
    await ping(two, 'remote', '10.40.0.77');
  });

  it('--mac-address gives that MAC, which the other host learns', async () => {
    const mac = '02:11:22:33:44:55';
    // An address that nobody has after it: what another container remembers of it would be wrong for half a minute
    await runSleeper(one, 'mac', '--network=shop', `--mac-address=${mac}`, '--ip=10.40.0.66');
    const netns = await netnsOf(one, 'mac');
    const links = await one.json(['ip', '-j', 'link', 'show', 'dev', 'sand0'], { netns });
    expect(links).toMatchObject([{ address: mac }]);
    await ping(two, 'remote', '10.40.0.66');
    const overlay = overlayPath((await sand.network('shop')).id);
    const fdb = await two.json(['bridge', '-j', 'fdb'], { netns: overlay });
    expect(fdb).toContainEqual(expect.objectContaining({ mac, dst: one.address }));
  });

  it('`network connect` and `disconnect` work on a running container', async () => {
    await runSleeper(one, 'moving');
    expect(await devices('moving')).toEqual(['eth0', 'lo']);
    await one.docker('network', 'connect', 'shop', 'moving');
    expect(await devices('moving')).toEqual(['eth0', 'lo', 'sand0']);
    const address = await addressIn(one, 'moving', 'shop');
    await ping(one, 'moving', remote);
    await ping(two, 'remote', address);
    await one.docker('network', 'disconnect', 'shop', 'moving');
    expect(await devices('moving')).toEqual(['eth0', 'lo']);
    expect(await endpoints()).toEqual([remote]);
    await one.docker('network', 'connect', '--ip', '10.40.0.88', 'shop', 'moving');
    expect(await devices('moving')).toContainEqual(expect.stringMatching(/^sand\d$/)); // Docker counts on
    await ping(two, 'remote', '10.40.0.88');
  });

  it('stop, start and restart give a working interface each time, and no address is lost', async () => {
    await runSleeper(one, 'again', '--network=shop');
    await one.docker('stop', '--time', '0', 'again');
    expect(await endpoints()).toEqual([remote]);
    await one.docker('start', 'again');
    await ping(two, 'remote', await addressIn(one, 'again', 'shop'));
    await one.docker('restart', '--time', '0', 'again');
    const address = await addressIn(one, 'again', 'shop');
    await ping(two, 'remote', address);
    expect(await endpoints()).toEqual([address, remote].sort());
    expect(address).toBe('10.40.0.3'); // the lowest free one: the earlier ones came back
  });

  it('a container that ends by itself leaves nothing', async () => {
    await one.docker('run', '--rm', '--network=shop', 'busybox', 'true');
    expect(await endpoints()).toEqual([remote]);
    const { id } = await sand.network('shop');
    const owners = await sand.etcd.keys(`/sc-net/address-owners/${id}/`);
    expect(owners.map(key => key.split('/').at(-1))).toEqual([remote]);
  });

  it('a command that does not exist leaves nothing', async () => {
    const { status } = await one.dockerFails('run', '--rm', '--network=shop', 'busybox', '/no/such/program');
    expect(status).toBe(127);
    expect(await endpoints()).toEqual([remote]);
  });

  describe('under a restart of dockerd', () => {
    it('networks work after it; containers that restart always come back with an address', async () => {
      await runSleeper(one, 'always', '--network=shop', '--restart=always');
      await runSleeper(one, 'once', '--network=shop');
      await one.restartDockerd([]);
      await until(() => addressIn(one, 'always', 'shop'), { what: 'the container is up again' });
      await ping(two, 'remote', await addressIn(one, 'always', 'shop'));
      expect(await endpoints()).toHaveLength(2);
      await one.docker('start', 'once');
      await ping(one, 'once', remote);
    }, 60_000);

    it('no packet is lost with live-restore, and later commands find their endpoint', async () => {
      await one.restartDockerd(['--live-restore']);
      await runSleeper(one, 'alive', '--network=shop');
      await using steady = await SteadyPing.start(one, 'alive', remote);
      await one.restartDockerd();
      expect(await steady.lost()).toEqual([]);
      await runSleeper(one, 'new', '--network=shop');
      await ping(one, 'new', await addressIn(one, 'alive', 'shop'));
      await removeContainers(one, 'alive', 'new');
      expect(await endpoints()).toEqual([remote]);
      await one.restartDockerd([]);
    }, 60_000);
  });

  describe('while the agent is away', () => {
    async function end(signal: 'SIGTERM' | 'SIGINT' | 'SIGKILL'): Promise<void> {
      const agent = sand.agent(1);
      if (signal === 'SIGKILL') {
        await agent.kill();
        return;
      }
      const startedAt = performance.now();
      agent.signal(signal);
      await until(() => !agent.running, { what: 'the agent has ended', everyMs: 5 });
      expect(performance.now() - startedAt).toBeLessThan(1_000);
      expect(await agent.stop()).toMatchObject({ code: 0 });
      expect(existsSync(one.path('/run/docker/plugins/sand.sock'))).toBe(false);
      expect(existsSync(one.path('/run/sand/api.sock'))).toBe(false);
    }

    it.each(['SIGTERM', 'SIGINT', 'SIGKILL'] as const)(
      'by %s no packet is lost, and what changed elsewhere is caught up with',
      async signal => {
        await runSleeper(one, 'steady', '--network=shop');
        await using outwards = await SteadyPing.start(one, 'steady', remote);
        await using inwards = await SteadyPing.start(two, 'remote', await addressIn(one, 'steady', 'shop'));
        await end(signal);
        await runSleeper(two, 'meanwhile', '--network=shop');
        const meanwhile = await addressIn(two, 'meanwhile', 'shop');
        const agent = await sand.startAgent(1);
        await until(() => ping(one, 'steady', meanwhile).then(() => true), { what: 'the new peer is known' });
        await runSleeper(one, 'after', '--network=shop');
        await ping(one, 'after', remote);
        await ping(one, 'after', meanwhile);
        expect(await outwards.lost()).toEqual([]);
        expect(await inwards.lost()).toEqual([]);
        await removeContainers(two, 'meanwhile');
        // Entries of peers that came meanwhile are mended; the rest was right, and was left alone
        const repairs = (await agent.log()).split('\n').filter(line => line.includes('kernel repaired'));
        expect(repairs.filter(line => !line.includes(meanwhile))).toEqual([]);
        await removeContainers(one, 'steady', 'after');
        expect(await endpoints()).toEqual([remote]);
      },
      60_000,
    );

    it('starts over an overlay namespace whose containers are all there, without a repair', async () => {
      await runSleeper(one, 'kept', '--network=shop');
      await sand.agent(1).kill();
      const agent = await sand.startAgent(1);
      await runSleeper(one, 'proof', '--network=shop'); // after it, the start's reconcile is over
      expect(await agent.log()).not.toContain('kernel repaired');
      await ping(one, 'kept', remote);
    });
  });
});
