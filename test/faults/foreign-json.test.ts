/** Values that no agent writes, under every family of keys: each harms only the object it belongs to, and is told. */
import { randomUUID } from 'node:crypto';
import { ApiHost } from '../support/api-host.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { NetnsLab } from '../support/netns.js';
import { until } from '../support/until.js';

const PREFIX = '/foreign';
const HEALED_WITHIN_MS = 2_000;

let etcd: EtcdCluster;
let lab: NetnsLab;
let ant: ApiHost;
let victim: { id: string; endpoint: Record<string, unknown> };
let healthy: string;

beforeAll(async () => {
  etcd = await startEtcd({ flags: { 'max-request-bytes': `${32 * 1024 ** 2}` } });
  lab = await NetnsLab.open();
  const [netns] = await lab.hosts('ant');
  ant = await ApiHost.open({ hosts: etcd.hosts, prefix: PREFIX, name: 'ant', netns, vtep: '10.99.0.1' });
  const { id } = await ant.network({ name: 'victim' });
  victim = { id, endpoint: (await ant.endpoint(id, (await lab.netns('one')).path)).body.endpoint };
  healthy = (await ant.network({ name: 'healthy', ip_range: '10.5.0.0/24' })).id;
});
afterAll(async () => {
  await ant[Symbol.asyncDispose]();
  await lab[Symbol.asyncDispose]();
  await etcd.stop();
});

interface Difference {
  readonly kind: string;
  readonly key: string | null;
  readonly text: string;
}
const verify = async (): Promise<Difference[]> => (await ant.api.get('/verify')).body.differences;

/** Over etcd's HTTP gateway: etcdctl takes neither an empty value nor 10 MB. */
async function put(key: string, value: string): Promise<void> {
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  const body = JSON.stringify({ key: base64(key), value: base64(value) });
  const answer = await fetch(`${etcd.hosts[0]}/v3/kv/put`, { method: 'POST', body });
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
}

const VALUES: Readonly<Record<string, string>> = {
  truncated: '{"id":"6ffc3990-b2',
  'of another type': '42',
  null: 'null',
  empty: '',
  'a list': '[[[[]]]]',
  'a prototype': '{"__proto__":{"id":"x"},"constructor":{}}',
  'fields of wrong types':
    '{"id":7,"hostname":[],"network_id":{},"addresses":"x","vxlan_vni":"1","bit_set":null,"kind":0}',
  'deeply nested': `${'['.repeat(20_000)}${']'.repeat(20_000)}`,
  '10 MB': JSON.stringify({ id: 'x'.repeat(10 * 1024 ** 2) }),
};

/** Keys of each family that somebody may have written to, in the victim's network or in none. */
const KEYS: Readonly<Record<string, () => string>> = {
  network: () => `network/${randomUUID()}`,
  'network.attributes': () => `network.attributes/${victim.id}`,
  'network-endpoints': () => `network-endpoints/${victim.id}/${randomUUID()}`,
  'node-endpoints': () => `node-endpoints/ant/${randomUUID()}`,
  'network.bindings': () => `network.bindings/${victim.id}/ant/${randomUUID().replaceAll('-', '')}`,
  'address-owners': () => `address-owners/${victim.id}/10.0.0.77`,
  'address-spares': () => `address-spares/${victim.id}/bee`,
  names: () => 'names/anybody',
  vnis: () => 'vnis/77',
  'docker-networks': () => `docker-networks/${randomUUID()}`,
  'docker-endpoints': () => `docker-endpoints/${randomUUID()}`,
  'network.hosts': () => 'network.hosts/bee',
  'network.presence': () => 'network.presence/bee',
};
/** Where the original writes, too, and nobody reads what another agent wrote. */
const UNREAD = ['docker-networks', 'docker-endpoints', 'network.hosts', 'network.presence'];

const cases = Object.keys(KEYS).flatMap(family => Object.keys(VALUES).map(what => [family, what] as const));

/** Another network, from its creation to its end. */
async function othersWork(): Promise<void> {
  const { body, status } = await ant.endpoint(healthy);
  expect([status, body.error]).toEqual([201, undefined]);
  expect((await ant.api.delete(`/endpoints/${body.endpoint.id}`)).status).toBe(204);
  const { id } = await ant.network({ ip_range: '10.6.0.0/24' });
  expect((await ant.api.delete(`/networks/${id}`)).status).toBe(204);
  expect((await ant.api.get('/networks')).status).toBe(200);
  expect((await ant.api.get('/endpoints')).status).toBe(200);
  expect((await ant.api.get('/hosts')).status).toBe(200);
}

it.each(cases)('%s: %s', async (family, what) => {
  const key = `${PREFIX}/${KEYS[family]?.()}`;
  await put(key, VALUES[what] ?? '');
  await othersWork();
  const found = await verify();
  if (!UNREAD.includes(family)) expect(found.map(each => each.key)).toContain(key);
  await etcd.ctl('del', key);
  await until(async () => (await verify()).every(each => each.key !== key), {
    what: 'it is healed',
    timeoutMs: HEALED_WITHIN_MS,
  });
});

it('the pool of a network: that network alone refuses, by name, until it is mended', async () => {
  const key = `${PREFIX}/ipalloc/${victim.id}`;
  const before = (await etcd.get(key)) ?? '';
  for (const value of Object.values(VALUES)) {
    await put(key, value);
    const { status, body } = await ant.endpoint(victim.id);
    expect([status, body.error]).toEqual([expect.any(Number), expect.stringContaining(victim.id)]);
    expect(status).toBeGreaterThanOrEqual(400);
    await othersWork();
    expect((await verify()).map(each => each.key)).toContain(key);
  }
  await put(key, before);
  const healed = async () => (await ant.endpoint(victim.id)).status === 201;
  await until(healed, { what: 'it gives addresses again', timeoutMs: HEALED_WITHIN_MS });
});

it('an endpoint under the key of another network or endpoint is neither', async () => {
  const stray = [`${healthy}/${victim.endpoint['id']}`, `${victim.id}/${randomUUID()}`];
  for (const at of stray) {
    const key = `${PREFIX}/network-endpoints/${at}`;
    await put(key, JSON.stringify(victim.endpoint));
    await othersWork();
    expect(await verify()).toContainEqual(expect.objectContaining({ key, kind: 'broken-value' }));
    await etcd.ctl('del', key);
  }
  expect(
    (await ant.api.get(`/endpoints?network_id=${victim.id}&hostname=ant`)).body.endpoints,
  ).toContainEqual(expect.objectContaining({ id: victim.endpoint['id'] }));
});

it('nothing of it was thrown past a handler', () => {
  expect(ant.host.log.texts('error').filter(text => text.includes('unhandled'))).toEqual([]);
});
