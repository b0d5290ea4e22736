import type { AgentProcess } from '../support/agent-process.js';
import type { DockerHost } from '../support/docker-host.js';
import type { LegacyProcess } from '../support/legacy-process.js';
import {
  addressOf,
  createById,
  FRESH_BITS,
  identityOf,
  MovingLab,
  untilAdopted,
} from '../support/moving-lab.js';
import { addressIn, ping, removeContainers, runSleeper } from '../support/sand-lab.js';
import { SteadyPing } from '../support/steady-ping.js';
import { until } from '../support/until.js';

const SOCKET = { socket: '/run/docker/plugins/sand.sock' };

describe('a Docker host goes back to the original, and comes again', () => {
  let lab: MovingLab;
  let one: DockerHost;
  let two: DockerHost;
  let ours: AgentProcess;
  let legacy: LegacyProcess;
  let id: string;
  let remote: string;
  beforeAll(async () => {
    lab = await MovingLab.start();
    [one, two] = [lab.host(1), lab.host(2)];
    const far = await lab.startLegacy(2, SOCKET);
    id = lab.newId();
    await far.createNetwork(id);
    ours = await lab.startOurs(1);
    for (const host of [one, two]) await createById(host, 'shop', id);
    await runSleeper(two, 'remote', '--network=shop');
    remote = await addressIn(two, 'remote', 'shop');
    for (const name of ['stay', 'removed', 'again']) await runSleeper(one, name, '--network=shop');
  }, 60_000);
  afterAll(() => lab?.stop());

  const bitOf = (address: string) => Number(address.split('.')[3]);
  const stayAddress = () => addressIn(one, 'stay', 'shop');
  /** The original finds a container's interface through its record, which gets the namespace a moment after the start. */
  const untilRecorded = () =>
    until(async () => (await lab.endpoints(id)).every(each => each.target_netns_path !== ''), {
      what: 'sandboxes',
    });

  async function undisturbed(swap: () => Promise<void>): Promise<void> {
    await using outwards = await SteadyPing.start(one, 'stay', remote);
    await using inwards = await SteadyPing.start(two, 'remote', await stayAddress());
    const before = await identityOf(one, id);
    await swap();
    expect([await outwards.lost(), await inwards.lost()]).toEqual([[], []]);
    expect(await identityOf(one, id)).toEqual(before);
  }

  it('records say name and MAC of the interfaces that the kernel has', async () => {
    const links = (await identityOf(one, id)).links;
    for (const { hostname, overlay_veth_name, overlay_veth_mac } of await lab.endpoints(id)) {
      if (hostname !== one.name) continue;
      expect(links).toContainEqual(expect.stringMatching(`^\\d+ ${overlay_veth_name} ${overlay_veth_mac}$`));
    }
  });

  it('the original takes up what ours has made: no packet is lost, nothing is made anew', async () => {
    await untilRecorded();
    await undisturbed(async () => {
      await ours.stop();
      legacy = await lab.startLegacy(1, SOCKET);
    });
    const own = (await lab.endpoints(id)).filter(({ hostname }) => hostname === one.name);
    expect(own.map(({ active }) => active)).toEqual([true, true, true]);
  });

  it('Docker goes on with the original: containers of ours end, new ones start', async () => {
    const address = await addressIn(one, 'removed', 'shop');
    await removeContainers(one, 'removed');
    expect(await lab.bits(id)).not.toContain(bitOf(address));
    await one.docker('restart', '--time', '0', 'again');
    await ping(two, 'remote', await addressIn(one, 'again', 'shop'));
    await runSleeper(one, 'theirs', '--network=shop');
    await ping(one, 'theirs', await stayAddress());
    await ping(two, 'remote', await addressIn(one, 'theirs', 'shop'));
    expect(await legacy.log()).toBe('');
  });

  it('ours comes again: no packet is lost, and what the original left of our keys is gone', async () => {
    await undisturbed(async () => {
      await legacy.stop();
      ours = await lab.startOurs(1);
      await untilAdopted(one, id);
    });
    const records = await lab.endpoints(id);
    const known = new Set(records.map(addressOf));
    const living = new Set(records.map(record => record.id));
    const owners = async () => {
      const values = await lab.etcd.entries(`/sc-net/address-owners/${id}/`);
      return [...values.values()].map(value => String(JSON.parse(value).endpoint_id));
    };
    await until(async () => (await owners()).every(owner => living.has(owner)), { what: 'owners live' });
    expect(await lab.bits(id)).toEqual(
      [...FRESH_BITS, ...[...known].map(address => bitOf(address))].sort((a, b) => a - b),
    );
    await runSleeper(one, 'last', '--network=shop');
    await ping(two, 'remote', await addressIn(one, 'last', 'shop'));
  });

  it('a Docker network that the original removed does not hold the network', async () => {
    await ours.stop();
    legacy = await lab.startLegacy(1, SOCKET);
    await removeContainers(one, 'stay', 'again', 'theirs', 'last');
    await one.docker('network', 'rm', 'shop');
    await legacy.stop();
    expect(await lab.etcd.keys('/sc-net/network.bindings/')).toHaveLength(1);
    ours = await lab.startOurs(1);
    await until(async () => (await lab.etcd.keys('/sc-net/network.bindings/')).length === 0, {
      what: 'no binding',
    });
    await removeContainers(two, 'remote');
    await two.docker('network', 'rm', 'shop');
    const left = () => lab.etcd.keys('/sc-net/');
    const wanted = [`/sc-net/ipalloc/${id}`, `/sc-net/network/${id}`];
    await until(async () => `${await left()}` === `${wanted}`, { what: 'only the network is left' });
    expect(await lab.bits(id)).toEqual(FRESH_BITS);
  });
});
