/** What others do to the kernel's objects is mended within two seconds, counted, and told in one line. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type IpAddress, type MacAddress, parseNetnsPath, parseNetworkId } from '../../model/scalars.js';
import { REMOVAL_GROUP } from '../../overlay/netlink/constants.js';
import { packPeers } from '../../overlay/peers.js';
import { ApiHost } from '../support/api-host.js';
import { ok } from '../support/command.js';
import { GATEWAY_NAME, ON_BRIDGE } from '../support/data-plane.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { namespaceHost, untilSound, violations } from '../support/invariants.js';
import { NetnsLab, TestNetns } from '../support/netns.js';
import { until } from '../support/until.js';

const PREFIX = '/damage';
const MENDED_WITHIN_MS = 2_000;
const UNHEARD_WITHIN_MS = 6_000; // looked for each 4 s
const FAR = {
  mac: '02:84:0a:00:00:03' as MacAddress,
  address: '10.0.0.3' as IpAddress,
  vtep: '10.99.0.2' as IpAddress,
};
const STRANGE_MAC = '02:00:00:00:00:99';

let etcd: EtcdCluster;
let lab: NetnsLab;
let ant: ApiHost;
let bee: ApiHost;
let shop: string;
let vni: number;
let near: TestNetns;
let overlay: TestNetns;
let port: string;
let hosts: ReturnType<typeof namespaceHost>[];

beforeAll(async () => {
  etcd = await startEtcd();
  lab = await NetnsLab.open();
  const [one, two] = await lab.hosts('ant', 'bee');
  const open = (name: string, netns: TestNetns, vtep: string) =>
    ApiHost.open({ hosts: etcd.hosts, prefix: PREFIX, name, netns, vtep });
  ant = lab.own(await open('ant', one, '10.99.0.1'));
  bee = lab.own(await open('bee', two, FAR.vtep));
  near = await lab.netns('near');
  const { id, vxlan_vni } = await ant.network({ name: 'shop' });
  [shop, vni] = [id, vxlan_vni];
  await ant.endpoint(id, near.path);
  await bee.endpoint(id, (await lab.netns('far')).path);
  const netnsPath = (host: ApiHost) => join(host.host.directory, 'netns');
  overlay = new TestNetns(parseNetnsPath(join(netnsPath(ant), `sc-ns-${id}`)));
  hosts = [
    namespaceHost('ant', { netns: one.path, vtep: '10.99.0.1', netnsPath: netnsPath(ant) }),
    namespaceHost('bee', { netns: two.path, vtep: FAR.vtep, netnsPath: netnsPath(bee) }),
  ];
  const links = await overlay.links();
  port = links.find(({ ifname }) => ifname.startsWith('sand'))?.ifname ?? '';
  const [placed] = (await near.links()).filter(({ ifname }) => ifname === 'sand0');
  port ||= placed?.ifalias ?? '';
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
  await etcd.stop();
});

const cluster = () => ({ etcd, prefix: PREFIX, hosts });
const told = () => ant.host.log.lines.filter(({ text }) => text === 'kernel repaired');
const sysctl = (name: string, value: string) =>
  overlay.exec('sh', '-c', `echo ${value} > /proc/sys/net/${name}`);

interface Damage {
  readonly what: string;
  do(): Promise<unknown>;
  /** Whether it is as before, where the invariants do not look. */
  mended?(): Promise<boolean>;
  /** Part of what the log says. */
  readonly says: string;
}

const ANY_DAMAGES: readonly Damage[] = [
  {
    what: 'FDB entry deleted',
    do: () => overlay.bridge(`fdb del ${FAR.mac} dev vxlan0 dst ${FAR.vtep} self`),
    says: 'FDB entry',
  },
  {
    what: 'FDB entry sent elsewhere',
    do: () => overlay.bridge(`fdb replace ${FAR.mac} dev vxlan0 dst 10.99.0.77 self permanent`),
    says: 'FDB entry',
  },
  {
    what: 'FDB entry too many',
    do: () => overlay.bridge(`fdb add ${STRANGE_MAC} dev vxlan0 dst ${FAR.vtep} self permanent`),
    says: 'not wanted',
  },
  {
    what: 'ARP entry deleted',
    do: () => overlay.ip(`neigh del ${FAR.address} dev vxlan0`),
    says: 'ARP entry',
  },
  {
    what: 'ARP entry with another MAC',
    do: () => overlay.ip(`neigh replace ${FAR.address} lladdr ${STRANGE_MAC} dev vxlan0 nud permanent`),
    says: 'ARP entry',
  },
  {
    what: 'gateway down',
    do: () => overlay.ip(`link set ${GATEWAY_NAME} down`),
    says: `${GATEWAY_NAME}: down`,
  },
  { what: 'VXLAN down', do: () => overlay.ip('link set vxlan0 down'), says: 'vxlan0: down' },
  { what: "gateway's MTU", do: () => overlay.ip(`link set ${GATEWAY_NAME} mtu 1300`), says: 'mtu 1300' },
  { what: "VXLAN's MTU", do: () => overlay.ip('link set vxlan0 mtu 1300'), says: 'mtu 1300' },
  {
    what: "gateway's MAC",
    do: () => overlay.ip(`link set ${GATEWAY_NAME} address ${STRANGE_MAC}`),
    mended: async () => (await overlay.link(GATEWAY_NAME))?.address === '02:84:0a:00:00:01',
    says: `MAC ${STRANGE_MAC}`,
  },
  {
    what: 'gateway address deleted',
    do: () => overlay.ip(`address del 10.0.0.1/24 dev ${GATEWAY_NAME}`),
    says: 'address 10.0.0.1/24',
  },
  { what: 'VXLAN deleted', do: () => overlay.ip('link del vxlan0'), says: 'vxlan0: missing' },
  {
    what: 'namespace file unmounted',
    do: () => ok(['umount', '--lazy', overlay.path]),
    says: 'namespace file',
  },
  {
    what: 'namespace file removed',
    // In one go: the agent may bind it again at any moment.
    do: () => ok(['sh', '-c', `umount --lazy ${overlay.path} && rm ${overlay.path}`]),
    says: 'namespace file',
  },
  {
    what: 'link-local addresses on',
    do: () => sysctl('ipv6/conf/all/addr_gen_mode', '0'),
    mended: async () => (await overlay.sysctl('net.ipv6.conf.all.addr_gen_mode')) === '1',
    says: 'link-local',
  },
];

const BRIDGE_DAMAGES: readonly Damage[] = [
  {
    what: 'static entry of the port deleted',
    do: () => overlay.bridge(`fdb del 02:84:0a:00:00:02 dev ${port} master`),
    says: 'entry of 02:84',
  },
  { what: 'port down', do: () => overlay.ip(`link set ${port} down`), says: 'down, wanted up' },
  { what: "port's MTU", do: () => overlay.ip(`link set ${port} mtu 1300`), says: 'mtu 1300' },
  {
    what: 'port out of its bridge',
    do: () => overlay.ip(`link set ${port} nomaster`),
    says: 'no port of br0',
  },
  {
    what: 'VXLAN out of its bridge',
    do: () => overlay.ip('link set vxlan0 nomaster'),
    says: 'no port of br0',
  },
  {
    what: 'learning on',
    do: () => overlay.bridge(`link set dev ${port} learning on`),
    mended: async () => (await overlay.port(port))?.['learning'] === false,
    says: 'learning on',
  },
  {
    what: 'multicast snooping on',
    do: () => overlay.ip('link set br0 type bridge mcast_snooping 1'),
    says: 'multicast snooping',
  },
  {
    what: 'flooding on',
    do: () => overlay.bridge(`link set dev ${port} flood on`),
    mended: async () => (await overlay.port(port))?.['flood'] === false,
    says: 'flood',
  },
  {
    what: 'packet filter on',
    do: () => sysctl('bridge/bridge-nf-call-iptables', '1'),
    mended: async () => (await overlay.sysctl('net.bridge.bridge-nf-call-iptables')) === '0',
    says: 'bridge-nf-call-iptables',
  },
  { what: 'bridge deleted', do: () => overlay.ip('link del br0'), says: 'br0: missing' },
  {
    what: 'stray port of our kind',
    do: () => overlay.ip('link add sandfeed master br0 type veth peer name astray'),
    says: 'port of no endpoint',
  },
];

/** What is in other namespaces is compared when something in the overlay's own changes, or goes away. */
const MACVLAN_DAMAGES: readonly Damage[] = [
  { what: 'gateway deleted', do: () => overlay.ip('link del gateway0'), says: 'gateway0: missing' },
  {
    what: 'alias deleted',
    do: () => near.ip('link set sand0 alias ""').then(() => overlay.ip('link set vxlan0 mtu 1300')),
    says: 'not finished',
  },
  {
    what: 'stray interface of our kind',
    do: async () => {
      await overlay.ip(
        `link add astray link vxlan0 netns ${near.path.split('/').at(-1)} type macvlan mode bridge`,
      );
      await near.ip('link set astray alias sandfeed');
      await overlay.ip('link set vxlan0 mtu 1300');
    },
    mended: async () => (await near.link('astray')) === undefined,
    says: 'port of no endpoint',
  },
];

const DAMAGES = [...ANY_DAMAGES, ...(ON_BRIDGE ? BRIDGE_DAMAGES : MACVLAN_DAMAGES)];

const reaches = async () => (await near.ping(FAR.address)) === 1;

it.each(DAMAGES.map(damage => [damage.what, damage] as const))(
  '%s: mended within 2 s',
  async (_what, damage) => {
    await untilSound(cluster());
    const [before, lines] = [ant.host.engine.reconciler.book.count, told().length];
    await damage.do();
    const sound = async () => {
      const found = await violations(cluster());
      if (found.length > 0) throw new Error(found.join('; '));
      return (await (damage.mended?.() ?? true)) && told().length > lines;
    };
    await until(sound, { timeoutMs: MENDED_WITHIN_MS, everyMs: 40, what: 'it is mended' });
    expect(await reaches()).toBe(true);
    expect(JSON.stringify(told().slice(lines))).toContain(damage.says);
    expect(ant.host.engine.reconciler.book.count).toBeGreaterThan(before);
  },
);

it.each([1, 2, 3])('damage in the very moment of a change of ours: mended within 6 s (%i)', async n => {
  const passing = await lab.netns(`unheard${n}`);
  await untilSound(cluster());
  // Ours, too, for the kernel's worker: nobody is told of it.
  const { kernel } = ant.host.engine.options;
  const lines = told().length;
  await kernel.applyPeers(overlay.path, { set: packPeers([]), remove: packPeers([FAR]) });
  const { body } = await bee.endpoint(shop, passing.path);
  await untilSound(cluster(), { timeoutMs: UNHEARD_WITHIN_MS });
  expect(JSON.stringify(told().slice(lines))).toContain(`FDB entry of ${FAR.mac}`);
  expect(await reaches()).toBe(true);
  await bee.api.delete(`/endpoints/${body.endpoint.id}`);
});

it('damage that could not be mended: tried again within 6 s', async () => {
  const [host] = hosts;
  const inHost = (...argv: string[]) => ok([...(host?.enter ?? []), ...argv]);
  await untilSound(cluster());
  const failed = () => ant.host.log.lines.filter(({ text }) => /not finished/.test(text)).length;
  const before = failed();
  // In one go: a compare may come at any moment.
  const theirs = `ip link add theirs type vxlan id ${vni} dstport 4789`;
  await ok([
    'sh',
    '-c',
    `nsenter --net=${overlay.path} ip link del vxlan0 && ${host?.enter.join(' ')} ${theirs}`,
  ]);
  await until(() => failed() > before, { timeoutMs: 4_000, what: 'it is told that the VNI is taken' });
  await inHost('ip', 'link', 'del', 'theirs');
  await untilSound(cluster(), { timeoutMs: UNHEARD_WITHIN_MS });
  expect(await reaches()).toBe(true);
});

it('what is on its way to the kernel when a compare begins: no damage', async () => {
  const passing = await Promise.all(Array.from({ length: 12 }, (_, i) => lab.netns(`passing${i}`)));
  await untilSound(cluster());
  const { reconciler } = ant.host.engine;
  const [lines, { count }] = [told().length, reconciler.book];
  let over = false;
  const comparing = (async () => {
    while (!over) await reconciler.reconcile(parseNetworkId(shop));
  })();
  const made = await Promise.all(passing.map(({ path }) => bee.endpoint(shop, path)));
  await Promise.all(made.map(({ body }) => bee.api.delete(`/endpoints/${body.endpoint.id}`)));
  await untilSound(cluster());
  over = true;
  await comparing;
  expect(told().slice(lines)).toEqual([]);
  expect(reconciler.book.count).toBe(count);
});

it("the endpoint's interface deleted from within: made again, with its address", async () => {
  await near.ip('link del sand0');
  await until(reaches, { timeoutMs: 3_000, everyMs: 50, what: 'it reaches the other host again' });
});

it('an interface that an agent took out of use when it was killed, and whose endpoint stayed: made again', async () => {
  await near.ip('link set sand0 down', `link set sand0 name xgone group ${REMOVAL_GROUP}`);
  if (ON_BRIDGE) await overlay.ip(`link set ${port} down nomaster group ${REMOVAL_GROUP}`);
  ant.host.engine.reconciler.reconcileAll();
  await until(reaches, { timeoutMs: 3_000, everyMs: 50, what: 'it reaches the other host again' });
  await until(async () => (await near.links()).length === 2, { what: 'the old one is gone' });
});

it('a namespace that is gone for good: made again, with its endpoints', async () => {
  for (const { ifname } of await overlay.links()) {
    if (ifname === 'vxlan0' || ifname === GATEWAY_NAME || ifname === port)
      await overlay.run('ip', 'link', 'del', ifname);
  }
  await until(reaches, { timeoutMs: 4_000, everyMs: 50, what: 'it reaches the other host again' });
});

it('no packet is lost while the file of a namespace is bound again', async () => {
  const pings = near.ping(FAR.address, { count: 60 });
  await ok(['umount', '--lazy', overlay.path]);
  expect(await pings).toBe(60);
  expect(existsSync(overlay.path)).toBe(true);
});

it('what is not ours stays: a veth in our bridge, an address, an entry of another device', async () => {
  await overlay.ip(
    `link add theirs ${ON_BRIDGE ? 'master br0' : ''} up type veth peer name theirs-far`,
    'address add 192.168.7.1/24 dev theirs-far',
    `neigh add 192.168.7.2 lladdr ${STRANGE_MAC} dev theirs-far nud permanent`,
  );
  const lines = told().length;
  await overlay.bridge(`fdb del ${FAR.mac} dev vxlan0 dst ${FAR.vtep} self`);
  await until(() => told().length > lines, { timeoutMs: MENDED_WITHIN_MS, what: 'a compare has been there' });
  expect(await overlay.link('theirs')).toMatchObject(ON_BRIDGE ? { master: 'br0' } : {});
  expect(await overlay.addresses('theirs-far')).toHaveLength(1);
  expect(await overlay.neighbours('theirs-far')).toMatchObject([{ dst: '192.168.7.2' }]);
  const [inspection] = [...(await ant.host.engine.reconciler.inspectAll()).values()];
  expect(inspection).toEqual({
    repairs: [],
    missingPorts: [],
    foreign: ON_BRIDGE ? ['theirs: a veth in br0 that is none of ours'] : [],
  });
  await overlay.ip('link del theirs');
});

it('inspectAll() says what differs and changes nothing', async () => {
  const inspectDamage = async () => {
    await untilSound(cluster());
    const lines = told().length;
    await overlay.ip(`link set ${GATEWAY_NAME} mtu 1300`, `neigh del ${FAR.address} dev vxlan0`);
    const [inspection] = [...(await ant.host.engine.reconciler.inspectAll()).values()];
    if ((await overlay.link(GATEWAY_NAME))?.mtu === 1300) return inspection;
    // A compare was faster, which tells what it has mended: once more.
    await until(() => told().length > lines, { timeoutMs: MENDED_WITHIN_MS, what: 'the mending is told' });
    return undefined;
  };
  const inspection = await until(inspectDamage, { timeoutMs: 20_000, what: 'nobody mends it meanwhile' });
  expect(inspection.repairs).toEqual([
    `${GATEWAY_NAME}: mtu 1300, wanted 1450`,
    `ARP entry of ${FAR.address} missing`,
  ]);
  await untilSound(cluster());
});

it('a foreign VXLAN with our VNI is named, and left alone', async () => {
  const { id } = await ant.network({ vxlan_vni: 4_242 });
  const [host] = hosts;
  const inHost = (...argv: string[]) => ok([...(host?.enter ?? []), ...argv]);
  await inHost('ip', 'link', 'add', 'theirs42', 'type', 'vxlan', 'id', '4242', 'dstport', '4789');
  const { status, body } = await ant.endpoint(id, (await lab.netns('refused')).path);
  expect([status, body.error]).toEqual([
    409,
    expect.stringMatching(
      /VNI 4242 on UDP port 4789 is used by interface theirs42 \(index \d+\) in the host's namespace/,
    ),
  ]);
  await inHost('ip', 'link', 'show', 'theirs42');
  await inHost('ip', 'link', 'del', 'theirs42');
  await untilSound(cluster());
});

it('an unchanged host stays silent', async () => {
  await untilSound(cluster());
  const { reconciler } = ant.host.engine;
  const [lines, { lastAt }] = [told().length, reconciler.book];
  reconciler.reconcileAll();
  await until(() => reconciler.book.lastAt !== lastAt, { what: 'it was compared' });
  expect(told().length).toBe(lines);
});
