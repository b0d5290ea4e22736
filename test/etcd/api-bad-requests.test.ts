import { ApiHost } from '../support/api-host.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { NetnsLab } from '../support/netns.js';
import { until } from '../support/until.js';

const PREFIX = '/bad-requests';
const NOWHERE = '6ffc3990-b212-47f2-a5d1-2afe7526e548';

let etcd: EtcdCluster;
let lab: NetnsLab;
let ant: ApiHost;
let network: string;
let before: string;

/** Everything that etcd holds. */
const truth = async () => JSON.stringify([...(await etcd.entries(PREFIX))]);

beforeAll(async () => {
  etcd = await startEtcd();
  lab = await NetnsLab.open();
  const [netns] = await lab.hosts('ant');
  ant = lab.own(
    await ApiHost.open({ hosts: etcd.hosts, prefix: PREFIX, name: 'ant', netns, vtep: '10.99.0.1' }),
  );
  network = (await ant.network({ name: 'shop' })).id;
  await ant.endpoint(network);
  before = await truth();
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
  await etcd.stop();
});

const HUGE = 'x'.repeat(100_000);
const NOT_TEXT: readonly unknown[] = [7, -1, 1.5, true, [], ['a'], {}, { $gt: '' }];
const ODD_TEXT: readonly string[] = [
  ' ',
  '\u0000',
  'a\u0000b',
  '../../etc/passwd',
  '%2e%2e%2f',
  '🦊',
  '\u202etxt',
  '\ud800',
  '\u2028',
  'null',
  '-1',
  '$(reboot)',
  "' or 1=1",
  HUGE,
];
/** Right for a network's name. */
const FINE_NAMES = new Set(['%2e%2e%2f', '🦊', 'null', '-1', '$(reboot)', "' or 1=1"]);

type Case = readonly [field: string, body: unknown];
const each = (field: string, values: readonly unknown[], rest: object = {}): Case[] =>
  values.map(value => [field, { ...rest, [field]: value }]);

const NETWORK_CASES: readonly Case[] = [
  ...each('id', [...NOT_TEXT, ...ODD_TEXT, NOWHERE.slice(1), `${NOWHERE}0`, `{${NOWHERE}}`]),
  ...each('name', [...NOT_TEXT, ...ODD_TEXT.filter(text => !FINE_NAMES.has(text)), 'a/b', ' a', 'a\n']),
  ...each('type', [7, {}, 'underlay', 'Overlay', HUGE]),
  ...each('ip_range', [
    ...NOT_TEXT,
    ...ODD_TEXT,
    '10.0.0.0',
    '10.0.0.7/24',
    '10.0.0.0/31',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/24/24',
    '10.0.0.0/1e1',
    '010.0.0.0/24',
    '256.0.0.0/24',
    'fd00::/64',
  ]),
  ...each('gateway', [
    ...NOT_TEXT,
    ...ODD_TEXT,
    '10.9.0.1',
    '10.0.0.0',
    '10.0.0.255',
    '10.0.0.1/16',
    'fd00::1',
  ]),
  ...each('mtu', ['1450', 67, 65_536, 1.5, -1, [], {}, true, 1e300]),
  ...each('vxlan_vni', ['1', 0, -1, 1.5, 16_777_216, [], {}, true, 1e300]),
  ...each('ip_rnage', ['10.0.0.0/24']),
  ...each('constructor', [{}]),
  ...each('toString', ['x']),
];

const ENDPOINT_CASES: readonly Case[] = [
  ['network_id', {}],
  ...each('network_id', [null, '', ...NOT_TEXT, ...ODD_TEXT, 'shop']),
];

/** With a network that exists. */
const WITH_NETWORK: readonly Case[] = [
  ...each('activate', [7, 'true', [], {}, 'yes']),
  ...each('activate_params', [7, 'x', [], true]),
  ...each('nothing_known', [1]),
  ...each('ipv4_address', [
    ...NOT_TEXT,
    ...ODD_TEXT,
    '10.9.0.1',
    '10.0.0.0',
    '10.0.0.255',
    '10.0.0.9/16',
    '10.0.0.09',
    'fd00::9',
  ]),
  ...each('mac_address', [
    ...NOT_TEXT,
    ...ODD_TEXT,
    '02:84:0a:00:00',
    '01:00:5e:00:00:01',
    '00:00:00:00:00:00',
    '02-84-0a-00-00-02',
    'ff:ff:ff:ff:ff:ff',
  ]),
  ...[
    undefined,
    null,
    '',
    ...NOT_TEXT,
    ...ODD_TEXT,
    '/proc/self/environ',
    '/dev/null',
    'relative/ns',
    '/proc/self/ns/user',
  ].map((path): Case => ['ns_handle_path', { activate: true, activate_params: { ns_handle_path: path } }]),
  ...[7, 'x', [], {}].flatMap((value): Case[] => [
    ['set_addr', { activate_params: { set_addr: value } }],
    ['move_veth', { activate_params: { move_veth: value } }],
  ]),
  ['ns_handel_path', { activate_params: { ns_handel_path: '/run/netns/x' } }],
  ['ns_handle_path', { activate: true }],
];

const TEXTS: readonly (readonly [field: string, text: string])[] = [
  ['name', '{"name":"a","name":"b"}'],
  ['name', '{"name":"a","\\u006eame":"b"}'],
  ['__proto__', '{"__proto__":{"name":"a"}}'],
  ['__proto__', '{"name":"a","__proto__":null}'],
  ['body', '{"name":'],
  ['body', '{"name":"a"} {}'],
  ['body', "{'name':'a'}"],
  ['body', '{"name":NaN}'],
  ['body', '"text"'],
  ['body', '[]'],
  ['body', '[{"name":"a"}]'],
  ['body', 'null'],
  ['body', '7'],
  ['body', '['.repeat(50_000)],
  ['body', `${'['.repeat(50_000)}${']'.repeat(50_000)}`],
  ['body', `{"name":${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}}`],
  ['body', `{"name":"${'x'.repeat(300_000)}"}`],
  ['body', '\u0000'],
  ['body', 'name=a'],
];

const QUERIES: readonly (readonly [field: string, method: 'get' | 'delete', path: string])[] = [
  ['network_id', 'get', '/endpoints?network_id=shop'],
  ['network_id', 'get', `/endpoints?network_id=${NOWHERE}&network_id=${NOWHERE}`],
  ['network_id', 'get', '/endpoints?network_id=../../etc'],
  ['network_id', 'get', `/endpoints?network_id=${'x'.repeat(5_000)}`],
  ['hostname', 'get', '/endpoints?hostname=a/b'],
  ['hostname', 'get', '/endpoints?hostname=a&hostname=b'],
  ['hostname', 'get', '/endpoints?hostname=%00'],
  ['netwrok_id', 'get', `/endpoints?netwrok_id=${NOWHERE}`],
  ['network_id[$ne]', 'get', '/endpoints?network_id[$ne]=x'],
  ['constructor', 'get', '/endpoints?constructor=x'],
  ['force', 'delete', '/networks/shop?force=yes'],
  ['force', 'delete', '/networks/shop?force=true&force=true'],
  ['forse', 'delete', '/networks/shop?forse=true'],
  ['path', 'get', '/networks/%zz'],
  ['path', 'get', '/networks/%c3'],
  ['path', 'delete', '/networks/%'],
  ['id', 'delete', '/endpoints/shop'],
  ['id', 'delete', '/endpoints/..%2f..%2fnetwork'],
  ['id', 'delete', `/endpoints/${'x'.repeat(5_000)}`],
  ['id', 'delete', '/endpoints/%00'],
];

const MISSING: readonly (readonly ['get' | 'delete' | 'put' | 'patch' | 'post', string])[] = [
  ['get', '/networks/nobody'],
  ['get', `/networks/${NOWHERE}`],
  ['get', '/networks/..%2f..%2fetc'],
  ['get', '/networks/__proto__'],
  ['get', '/networks/constructor'],
  ['delete', `/networks/${NOWHERE}`],
  ['delete', `/endpoints/${NOWHERE}`],
  ['put', '/networks/shop'],
  ['patch', '/networks/shop'],
  ['post', '/networks/shop'],
  ['get', '/endpoints/x/y'],
  ['get', '/'],
  ['get', '/../../etc/passwd'],
];

const cases = [NETWORK_CASES, ENDPOINT_CASES, WITH_NETWORK, TEXTS, QUERIES, MISSING];

it('there are at least 150', () => {
  expect(cases.reduce((sum, { length }) => sum + length, 0)).toBeGreaterThan(150);
});

/** The last word on each: a 4xx that names the field, JSON, and nothing changed. */
async function expectRefusal(
  answer: {
    readonly status: number;
    readonly body: { readonly error?: string; readonly details?: { field?: string } };
  },
  field: string,
): Promise<void> {
  expect(answer).toMatchObject({
    status: 400,
    body: { code: 'invalid', error: expect.stringContaining(field) },
  });
  expect(answer.body.error?.length).toBeLessThan(1_000);
  expect(await truth()).toBe(before);
}

const show = (value: unknown) => (JSON.stringify(value) ?? 'undefined').slice(0, 60);
const named = (list: readonly Case[]) => list.map(([field, body]) => [field, show(body), body] as const);

describe('a bad request gets 400 with the field and changes nothing', () => {
  it.each(named(NETWORK_CASES))('POST /networks: %s in %s', async (field, _shown, body) => {
    await expectRefusal(await ant.api.post('/networks').send(body as object), field);
  });

  it.each(named(ENDPOINT_CASES))('POST /endpoints: %s in %s', async (field, _shown, body) => {
    await expectRefusal(await ant.api.post('/endpoints').send(body as object), field);
  });

  it.each(named(WITH_NETWORK))('POST /endpoints of a network: %s in %s', async (field, _shown, body) => {
    await expectRefusal(
      await ant.api.post('/endpoints').send({ network_id: network, ...(body as object) }),
      field,
    );
  });

  it.each(TEXTS.map(([field, text]) => [field, show(text), text] as const))(
    'POST /networks: %s in the text %s',
    async (field, _shown, text) => {
      await expectRefusal(await ant.api.post('/networks').type('json').send(text), field);
    },
  );

  it.each(QUERIES.map(query => [...query, show(query[2])] as const))(
    '%s: %s %#',
    async (field, method, path) => {
      await expectRefusal(await ant.api[method](path), field);
    },
  );

  it('a page in a browser', async () => {
    const answer = await ant.api
      .post('/networks')
      .set('Origin', 'http://evil.example')
      .type('text/plain')
      .send('{}');
    await expectRefusal(answer, 'Origin');
  });
});

it.each(MISSING)('%s %s is answered 404 with a JSON error', async (method, path) => {
  const { status, body } = await ant.api[method](path);
  expect([status, typeof body.error]).toEqual([404, 'string']);
  expect(await truth()).toBe(before);
});

it('after all of that the agent serves as before, and has logged no defect', async () => {
  expect((await ant.endpoint(network)).status).toBe(201);
  await until(async () => (await ant.api.get('/status')).body.status.local.endpoints === 2, {
    what: 'both endpoints',
  });
  expect(ant.host.log.texts('error')).toEqual([]);
});
