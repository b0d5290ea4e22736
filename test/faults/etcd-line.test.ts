/** The line to etcd, as networks spoil it: every answer half a second late; pulled out without a word, and put back. */
import { join } from 'node:path';
import { parseNetnsPath } from '../../model/scalars.js';
import { ApiHost } from '../support/api-host.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { namespaceHost, untilSound } from '../support/invariants.js';
import { NetnsLab, TestNetns } from '../support/netns.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

const PREFIX = '/line';
const CURRENT_WITHIN_MS = 2_000;
const ANSWERED_WITHIN_MS = 12_000;

let etcd: EtcdCluster;
let lab: NetnsLab;
let line: TcpProxy;
let ant: ApiHost;
let bee: ApiHost;
let network: string;
let hosts: ReturnType<typeof namespaceHost>[];

beforeAll(async () => {
  etcd = await startEtcd();
  lab = await NetnsLab.open();
  line = lab.own(await TcpProxy.open(etcd.hosts[0] ?? ''));
  const namespaces = await lab.hosts('ant', 'bee');
  const open = (name: string, i: number, url: string) =>
    ApiHost.open({
      ...{ hosts: [url], prefix: PREFIX, name },
      netns: namespaces[i] as TestNetns,
      vtep: `10.99.0.${i + 1}`,
    });
  ant = lab.own(await open('ant', 0, etcd.hosts[0] ?? ''));
  bee = lab.own(await open('bee', 1, line.url));
  hosts = [ant, bee].map((host, i) =>
    namespaceHost(i === 0 ? 'ant' : 'bee', {
      netns: (namespaces[i] as TestNetns).path,
      vtep: `10.99.0.${i + 1}`,
      netnsPath: join(host.host.directory, 'netns'),
    }),
  );
  network = (await ant.network({ name: 'shop' })).id;
  await ant.endpoint(network, (await lab.netns('near')).path);
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
  await etcd.stop();
});

const untilAllSound = () => untilSound({ etcd, prefix: PREFIX, hosts }, { timeoutMs: 15_000 });
const macsOn = async (host: ApiHost) => {
  const overlay = new TestNetns(parseNetnsPath(join(host.host.directory, 'netns', `sc-ns-${network}`)));
  return (await overlay.fdb('vxlan0')).filter(({ dst }) => dst !== undefined).map(({ mac }) => mac);
};

it('every answer half a second late: all calls are served within their deadline, and nobody gets an address twice', async () => {
  line.delay(500);
  const began = performance.now();
  const answers = await Promise.all(Array.from({ length: 12 }, () => bee.endpoint(network)));
  expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 12 }, () => 201));
  expect(performance.now() - began).toBeLessThan(ANSWERED_WITHIN_MS);
  const addresses = answers.map(({ body }) => body.endpoint.target_veth_ip);
  expect(new Set([...addresses, '10.0.0.2/24']).size).toBe(13);
  const removals = answers.map(({ body }) => bee.api.delete(`/endpoints/${body.endpoint.id}`));
  expect((await Promise.all(removals)).every(({ status }) => status === 204)).toBe(true);
  line.heal();
  await untilAllSound();
}, 60_000);

it('pulled without a word: refused in time and by name, torn down here, and current within 2 s of its return', async () => {
  const netns = await lab.netns('far');
  const { body } = await bee.endpoint(network, netns.path);
  await bee.endpoint(network, (await lab.netns('other')).path);
  const { id, target_veth_mac: mac } = body.endpoint;
  await until(async () => (await macsOn(ant)).includes(mac), { what: 'ant knows of it' });
  line.silence();
  const began = performance.now();
  const refused = await bee.endpoint(network);
  expect([refused.status, refused.body.error]).toEqual([503, expect.stringContaining('etcd')]);
  expect((await bee.api.delete(`/endpoints/${id}`)).status).toBe(204);
  expect(await netns.link('sand0')).toBeUndefined();
  expect(performance.now() - began).toBeLessThan(2 * ANSWERED_WITHIN_MS);
  const news = (await ant.endpoint(network, (await lab.netns('news')).path)).body.endpoint.target_veth_mac;
  line.heal();
  await until(async () => (await macsOn(bee)).includes(news), {
    what: 'bee knows what came meanwhile',
    timeoutMs: CURRENT_WITHIN_MS,
  });
  await until(async () => !(await macsOn(ant)).includes(mac), {
    what: 'ant knows what went meanwhile',
    timeoutMs: CURRENT_WITHIN_MS,
  });
  await untilAllSound();
}, 60_000);
