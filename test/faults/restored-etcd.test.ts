/** etcd comes back with the data of a backup: lower revisions, and without what was made since. */
import { join } from 'node:path';
import { ApiHost } from '../support/api-host.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { namespaceHost, untilSound } from '../support/invariants.js';
import { NetnsLab, type TestNetns } from '../support/netns.js';
import { until } from '../support/until.js';

const PREFIX = '/restored';

let etcd: EtcdCluster;
let lab: NetnsLab;
let ant: ApiHost;
let bee: ApiHost;
let hosts: ReturnType<typeof namespaceHost>[];

beforeAll(async () => {
  etcd = await startEtcd();
  lab = await NetnsLab.open();
  const namespaces = await lab.hosts('ant', 'bee');
  const open = async (name: string, netns: TestNetns, vtep: string) => {
    const host = lab.own(await ApiHost.open({ hosts: etcd.hosts, prefix: PREFIX, name, netns, vtep }));
    const netnsPath = join(host.host.directory, 'netns');
    return [host, namespaceHost(name, { netns: netns.path, vtep, netnsPath })] as const;
  };
  const [a, b] = [
    await open('ant', namespaces[0], '10.99.0.1'),
    await open('bee', namespaces[1], '10.99.0.2'),
  ];
  [ant, bee] = [a[0], b[0]];
  hosts = [a[1], b[1]];
}, 60_000);
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
  await etcd.stop();
});

async function restoreTo(backup: string): Promise<void> {
  const [member] = etcd.members;
  await etcd.kill();
  await member?.restore(backup);
  await etcd.restart();
}

const addressOf = (answer: { body: { endpoint: { target_veth_ip: string } } }) =>
  answer.body.endpoint.target_veth_ip.split('/')[0] ?? '';

it('what was made since is written anew by its hosts, no packet is lost, and nothing is given twice', async () => {
  const { id: old } = await ant.network({ name: 'old', ip_range: '10.1.0.0/24' });
  const gone = (await ant.endpoint(old)).body.endpoint;
  const backup = join(lab.directory, 'backup.db');
  await etcd.ctl('snapshot', 'save', backup);

  const [one, two] = [await lab.netns('one'), await lab.netns('two')];
  const { id: fresh } = await ant.network({ name: 'fresh', ip_range: '10.2.0.0/24' });
  await ant.endpoint(fresh, one.path);
  const far = addressOf(await bee.endpoint(fresh, two.path));
  await ant.api.delete(`/endpoints/${gone.id}`);
  const passive = addressOf(await bee.endpoint(old));
  await until(async () => (await one.ping(far)) === 1, { what: 'they reach each other' });

  const pings = one.ping(far, { count: 120 });
  await restoreTo(backup);
  const networks = async () => (await bee.api.get('/networks')).body.networks ?? [];
  await until(async () => (await networks()).length === 2, {
    what: 'both networks are there',
    timeoutMs: 10_000,
  });
  await untilSound({ etcd, prefix: PREFIX, hosts }, { timeoutMs: 15_000 });
  expect(await pings).toBe(120);
  const given = addressOf(await ant.endpoint(fresh));
  expect([far, '10.2.0.2']).not.toContain(given);
  // The backup has it; it was deleted since, and its address was given again.
  expect((await ant.api.delete(`/endpoints/${gone.id}`)).status).toBe(404);
  const records = (await bee.api.get(`/endpoints?network_id=${old}`)).body.endpoints;
  expect(records.map((record: { target_veth_ip: string }) => record.target_veth_ip.split('/')[0])).toEqual([
    passive,
  ]);
}, 90_000);
