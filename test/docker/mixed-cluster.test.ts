import type { AgentProcess } from '../support/agent-process.js';
import type { DockerHost } from '../support/docker-host.js';
import type { LegacyProcess } from '../support/legacy-process.js';
import { macOf } from '../support/legacy-records.js';
import {
  addressOf,
  answered,
  createById,
  FRESH_BITS,
  MovingLab,
  peerEntries,
} from '../support/moving-lab.js';
import { addressIn, netnsOf, overlayPath, removeContainers, runSleeper } from '../support/sand-lab.js';
import { until } from '../support/until.js';

describe('an agent of the original on one host, ours on another', () => {
  let lab: MovingLab;
  let legacy: LegacyProcess;
  let ours: AgentProcess;
  let one: DockerHost;
  let two: DockerHost;
  beforeAll(async () => {
    lab = await MovingLab.start();
    [one, two] = [lab.host(1), lab.host(2)];
    [legacy, ours] = await Promise.all([lab.startLegacy(1), lab.startOurs(2)]);
  });
  afterAll(() => lab?.stop());

  /** Entries of one endpoint as the other host has to have them. */
  const entriesOf = (address: string, vtep: string) =>
    [`${address} ${macOf(address)}`, `${macOf(address)} ${vtep}`].sort();

  describe.each(['the original', 'ours'] as const)('in a network made by %s', maker => {
    let id: string;
    let docker: string;
    beforeAll(async () => {
      docker = maker === 'ours' ? 'from-ours' : 'from-theirs';
      if (maker === 'ours') {
        const twice = ['--opt', `sand-name=${docker}`, '--ipam-opt', `sand-name=${docker}`];
        await two.docker('network', 'create', '--driver', 'sand', '--ipam-driver', 'sand', ...twice, docker);
        const networks = [...(await lab.etcd.entries('/sc-net/network/')).values()].map(text =>
          JSON.parse(text),
        );
        id = networks.find(({ name }) => name === docker).id;
      } else {
        id = lab.newId();
        await legacy.createNetwork(id);
        await createById(two, docker, id);
      }
    });

    it('endpoints reach each other both ways, come and go', async () => {
      const netns = await Promise.all([1, 2].map(n => lab.addNetns(1, `${docker}-${n}`)));
      const theirs = await Promise.all(netns.map(path => legacy.createEndpoint(id, path)));
      const names = [`${docker}-a`, `${docker}-b`];
      for (const name of names) await runSleeper(two, name, `--network=${docker}`);
      const addresses = await Promise.all(names.map(name => addressIn(two, name, docker)));
      expect(new Set([...addresses, ...theirs.map(addressOf)]).size).toBe(4);

      const onOurs = theirs.flatMap(each => entriesOf(addressOf(each), one.address)).sort();
      const onTheirs = addresses.flatMap(each => entriesOf(each, two.address)).sort();
      await until(async () => `${await peerEntries(two, id)}` === `${onOurs}`, { what: 'ours knows theirs' });
      await until(async () => `${await peerEntries(one, id)}` === `${onTheirs}`, {
        what: 'theirs knows ours',
      });
      for (const address of addresses) expect(await answered(one, netns[0] ?? '', address)).toBe(3);
      const inside = await netnsOf(two, names[0] ?? '');
      for (const each of theirs) expect(await answered(two, inside, addressOf(each))).toBe(3);

      await removeContainers(two, names[0] ?? '');
      const left = entriesOf(addresses[1] ?? '', two.address);
      await until(async () => `${await peerEntries(one, id)}` === `${left}`, { what: 'theirs forgets ours' });
      await legacy.deleteEndpoint(theirs[0]?.id ?? '');
      const kept = entriesOf(addressOf(theirs[1] as never), one.address);
      await until(async () => `${await peerEntries(two, id)}` === `${kept}`, { what: 'ours forgets theirs' });

      await removeContainers(two, names[1] ?? '');
      await legacy.deleteEndpoint(theirs[1]?.id ?? '');
      expect(await lab.endpoints(id)).toEqual([]);
      // The original's API never clears the bits of what it deletes.
      const never = theirs.map(each => Number(addressOf(each).split('.')[3]));
      expect(await lab.bits(id)).toEqual([...FRESH_BITS, ...never].sort((a, b) => a - b));
      expect(await lab.etcd.keys(`/sc-net/nodes-networks/${id}/`)).toEqual([]);
    }, 60_000);

    it('has MTU 1450 in our containers and overlay', async () => {
      const name = await runSleeper(two, `${docker}-mtu`, `--network=${docker}`);
      const links = await two.json(['ip', '-j', 'link', 'show', 'dev', 'sand0'], {
        netns: await netnsOf(two, name),
      });
      expect(links).toMatchObject([{ mtu: 1450 }]);
      const overlay = await two.json<{ ifname: string; mtu: number }[]>(['ip', '-j', 'link'], {
        netns: overlayPath(id),
      });
      for (const { ifname, mtu } of overlay)
        if (ifname !== 'lo') expect([ifname, mtu]).toEqual([ifname, 1450]);
      await removeContainers(two, name);
    });

    it('an endpoint of theirs that sits inactive keeps its address and is a peer like any other', async () => {
      const idle = await legacy.createEndpoint(id);
      expect(idle.active).toBe(false);
      const name = await runSleeper(two, `${docker}-beside`, `--network=${docker}`);
      expect(await addressIn(two, name, docker)).not.toBe(addressOf(idle));
      const wanted = entriesOf(addressOf(idle), one.address);
      await until(async () => `${await peerEntries(two, id)}` === `${wanted}`, {
        what: 'its entries are there',
      });
      await legacy.deleteEndpoint(idle.id);
      await until(async () => (await peerEntries(two, id)).length === 0, { what: 'its entries are gone' });
      await removeContainers(two, name);
    });

    it('gives no address twice while both create and remove at full speed', async () => {
      const paths = await Promise.all([1, 2, 3].map(n => lab.addNetns(1, `${docker}-race-${n}`)));
      const seen: string[] = [];
      const churn = async (path: string) => {
        for (let n = 0; n < 3; n++) {
          const endpoint = await legacy.createEndpoint(id, path);
          seen.push(addressOf(endpoint));
          await legacy.deleteEndpoint(endpoint.id);
        }
        seen.push(addressOf(await legacy.createEndpoint(id, path)));
      };
      const names = [1, 2, 3].map(n => `${docker}-race-${n}`);
      await Promise.all([
        ...paths.map(churn),
        ...names.map(name => runSleeper(two, name, `--network=${docker}`)),
      ]);
      const records = await lab.endpoints(id);
      expect(records).toHaveLength(6);
      expect(new Set(records.map(addressOf)).size).toBe(6);
      const given = [...seen, ...records.map(addressOf)].map(address => Number(address.split('.')[3]));
      expect(await lab.bits(id)).toEqual(expect.arrayContaining([...FRESH_BITS, ...given]));
      await removeContainers(two, ...names);
      const theirs = records.filter(({ hostname }) => hostname === one.name);
      for (const each of theirs) await legacy.deleteEndpoint(each.id);
      expect(await lab.endpoints(id)).toEqual([]);
    }, 60_000);
  });

  // Nested, so that it comes last.
  describe('after all that', () => {
    it('neither has complained', async () => {
      expect(await legacy.log()).toBe('');
      const lines = (await ours.log()).split('\n');
      expect(lines.filter(line => / INFO .*endpoint created/.test(line)).length).toBeGreaterThan(5);
      expect(lines.filter(line => / (WARN|ERROR) /.test(line))).toEqual([]);
    });
  });
});
