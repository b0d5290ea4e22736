/** A checker that finds nothing proves nothing: each kind of damage is done once, by other hands, and has to be seen. */
import { ApiHost } from '../support/api-host.js';
import { GATEWAY_NAME, ON_BRIDGE } from '../support/data-plane.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { type CheckedCluster, namespaceHost, untilSound, violations } from '../support/invariants.js';
import { NetnsLab, TestNetns } from '../support/netns.js';

const PREFIX = '/invariants';

let etcd: EtcdCluster;
let lab: NetnsLab;
let ant: ApiHost;
let bee: ApiHost;
let cluster: CheckedCluster;
let network: string;
/** Of ant's endpoint. */
let port: string;
let target: TestNetns;

beforeAll(async () => {
  etcd = await startEtcd();
  lab = await NetnsLab.open();
  const [first, second] = await lab.hosts('ant', 'bee');
  const plan = { hosts: etcd.hosts, prefix: PREFIX };
  ant = await ApiHost.open({ ...plan, name: 'ant', netns: first, vtep: '10.99.0.1' });
  bee = await ApiHost.open({ ...plan, name: 'bee', netns: second, vtep: '10.99.0.2' });
  const checked = ({ host }: ApiHost, name: string, { path }: TestNetns, vtep: string) =>
    namespaceHost(name, { netns: path, vtep, netnsPath: `${host.directory}/netns` });
  cluster = {
    etcd,
    prefix: PREFIX,
    hosts: [checked(ant, 'ant', first, '10.99.0.1'), checked(bee, 'bee', second, '10.99.0.2')],
  };
  ({ id: network } = await ant.network({ name: 'shop' }));
  target = await lab.netns('one');
  const { body } = await ant.endpoint(network, target.path);
  port = body.endpoint.overlay_veth_name;
  await bee.endpoint(network, (await lab.netns('two')).path);
  await untilSound(cluster);
  // What is damaged from here on is repaired by nobody.
  await Promise.all([ant.host.halt(), bee.host.halt()]);
});
afterAll(async () => {
  await bee[Symbol.asyncDispose]();
  await ant[Symbol.asyncDispose]();
  await lab[Symbol.asyncDispose]();
  await etcd.stop();
});

const overlay = (): TestNetns =>
  new TestNetns(`${ant.host.directory}/netns/sc-ns-${network}` as TestNetns['path']);
const key = (family: string): string => `${PREFIX}/${family}`;
const put = (family: string, value: object): Promise<string> =>
  etcd.ctl('put', key(family), JSON.stringify(value));
const owner = { kind: 'reservation', hostname: 'ant', op: 'x' };

it('violations() of a cluster that works are none', async () => {
  expect(await violations(cluster)).toEqual([]);
});

/** What is done, how, and what is said of it. */
type Damage = readonly [string, () => Promise<unknown>, RegExp];

const DAMAGES: readonly Damage[] = [
  ON_BRIDGE
    ? ['a lost port', () => overlay().ip(`link set ${port} nomaster`), /port sand\w+ of endpoint .* is off/]
    : ['a lost port', () => target.ip('link del sand0'), /port sand\w+ of endpoint .*: 0 macvlans/],
  [
    'an ARP entry too many',
    () => overlay().ip('neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 nud permanent dev vxlan0'),
    /ARP entry 10.0.0.9/,
  ],
  [
    'an FDB entry lost',
    () =>
      overlay().exec(
        'bridge',
        'fdb',
        'del',
        '02:84:0a:00:00:03',
        'dev',
        'vxlan0',
        'dst',
        '10.99.0.2',
        'self',
      ),
    /FDB entry 02:84:0a:00:00:03 via 10.99.0.2 is missing/,
  ],
  [
    'another MTU',
    () => overlay().ip(`link set ${GATEWAY_NAME} mtu 1400`),
    new RegExp(`MTU of ${GATEWAY_NAME} is 1400`),
  ],
  ['a lost gateway', () => overlay().ip(`address flush dev ${GATEWAY_NAME}`), /gateway is/],
  [
    'a link in the host',
    () =>
      new TestNetns(`/run/netns/${lab.prefix}-ant` as TestNetns['path']).ip('link add sandt0 type bridge'),
    /sandt0 is left/,
  ],
  [
    'a leaked reservation',
    () => put(`address-owners/${network}/10.0.0.7`, { ...owner, at: 1 }),
    /10.0.0.7 .* reservation of ant: for/,
  ],
  ['an owner without its bit', async () => undefined, /10.0.0.7 of network .* its bit is clear/],
  [
    'an owner without its endpoint',
    () => put(`address-owners/${network}/10.0.0.8`, { ...owner, kind: 'endpoint', endpoint_id: 'e' }),
    /no such endpoint has it/,
  ],
  ['a claim too many', () => put('vnis/77', { network_id: network }), /vnis\/77 is claimed for/],
  [
    'a VNI given twice',
    async () => {
      const { record } = ant.host.networks.list()[0] ?? {};
      await put('network/5e0eb41a-0f4b-4bb4-8a5b-7d1a4ff8f1c5', {
        ...record,
        id: '5e0eb41a-0f4b-4bb4-8a5b-7d1a4ff8f1c5',
      });
    },
    /VNI 1 is given twice/,
  ],
  [
    'a host that is not there',
    () => put(`nodes-networks/${network}/cat`, {}),
    /nodes-networks: network .* on cat without/,
  ],
  [
    'an endpoint without its twin',
    () => etcd.ctl('del', key('node-endpoints/bee'), '--prefix'),
    /is missing in node-endpoints of bee/,
  ],
  [
    'a promise without an end',
    () =>
      put(`network.bindings/${network}/ant/pending-1`, {
        docker_network_id: 'pending-1',
        network_id: network,
        aux_addresses: [],
      }),
    /promise .* never ends/,
  ],
];

it.each(DAMAGES)('violations() tells of %s', async (_, damage, text) => {
  await damage();
  expect((await violations(cluster)).join('\n')).toMatch(text);
});
