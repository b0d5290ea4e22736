import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import { ConflictError, NotFoundError } from '../../model/errors.js';
import { Kernel } from '../../overlay/kernel.js';
import type { WorkerRequest } from '../../overlay/netlink/worker.js';
import { packPeers } from '../../overlay/peers.js';
import type { RemotePeer } from '../../overlay/types.js';
import { run } from '../support/command.js';
import { GATEWAY_NAME, ON_BRIDGE } from '../support/data-plane.js';
import { NetnsLab, type TestNetns } from '../support/netns.js';
import { until } from '../support/until.js';
import {
  log,
  MTU,
  macOf,
  PORT,
  peerAt,
  plugOn,
  portIn,
  startHost,
  type TestHost,
  VNI,
} from './network-fixture.js';

let lab: NetnsLab;
let host: TestHost;
let container: TestNetns;

beforeEach(async () => {
  lab = await NetnsLab.open();
  const [netns] = await lab.hosts('h1');
  host = await startHost(lab, netns, 1);
  container = await lab.netns('c1');
});
afterEach(() => lab[Symbol.asyncDispose]());

const REMOTE = peerAt('10.99.0.2', 9);

/** The network with endpoint 2 plugged, and endpoint 9 remote. */
async function makeNetwork() {
  const wanted = host.wanted({ ports: [portIn(container, 2)], peers: [REMOTE] });
  expect(await host.kernel.reconcile(wanted)).toEqual({
    created: true,
    repairs: [],
    missingPorts: ['endpoint-2'],
  });
  await plugOn(host, portIn(container, 2));
  return wanted;
}

describe('reconcile() of a new network', () => {
  it('makes it once, and finds nothing to mend the second time', async () => {
    const wanted = await makeNetwork();
    const nothing = { created: false, repairs: [], missingPorts: [] };
    expect(await host.kernel.reconcile(wanted)).toEqual(nothing);
    expect(await host.kernel.reconcile(wanted)).toEqual(nothing);
    expect(await host.kernel.listPorts(wanted.netns)).toEqual(['sand002']);
    expect(await host.kernel.listNamespaces(lab.directory, 'overlay-')).toEqual([wanted.netns]);
  });

  it('gives the VXLAN its attributes, and its socket to the host', async () => {
    await makeNetwork();
    const data = { id: VNI, local: '10.99.0.1', port: PORT, learning: false, proxy: true };
    expect(await host.overlay.link('vxlan0')).toMatchObject({
      mtu: MTU,
      ...(ON_BRIDGE ? { master: 'br0' } : {}),
      flags: expect.arrayContaining(['UP']),
      linkinfo: { info_kind: 'vxlan', info_data: data },
    });
    const sockets = (netns: TestNetns) => netns.exec('ss', '-Hlun', `sport = :${PORT}`);
    expect(await sockets(host.netns)).toContain(`:${PORT}`);
    expect(await sockets(host.overlay)).toBe('');
  });

  if (ON_BRIDGE)
    it('sets the ports so that nothing learns, and only the VXLAN is flooded to', async () => {
      await makeNetwork();
      expect(await host.overlay.port('vxlan0')).toMatchObject({ learning: false, flood: true });
      expect(await host.overlay.port('sand002')).toMatchObject({ learning: false, flood: false });
    });

  if (ON_BRIDGE)
    it('sets one static entry for a local endpoint', async () => {
      await makeNetwork();
      const local = { mac: macOf(2), state: 'static', master: 'br0' };
      expect(await host.overlay.fdb('sand002')).toContainEqual(expect.objectContaining(local));
    });

  if (!ON_BRIDGE)
    it('puts the local endpoint on the VXLAN, in its own namespace, with its port as alias', async () => {
      await makeNetwork();
      expect(await container.link('sand0')).toMatchObject({
        address: macOf(2),
        mtu: MTU,
        ifalias: 'sand002',
        flags: expect.arrayContaining(['UP']),
        linkinfo: { info_kind: 'macvlan', info_data: { mode: 'bridge' } },
      });
      expect(await container.addresses('sand0')).toEqual(['10.1.0.2/24 brd 10.1.0.255']);
      const names = (await host.overlay.links()).map(({ ifname }) => ifname).sort();
      expect(names).toEqual(['gateway0', 'lo', 'vxlan0']);
    });

  it('sets one ARP and one FDB entry for a remote endpoint', async () => {
    await makeNetwork();
    const remote = { mac: macOf(9), dst: '10.99.0.2', state: 'permanent', flags: ['self'] };
    expect((await host.overlay.fdb('vxlan0')).filter(({ dst }) => dst)).toEqual([
      expect.objectContaining(remote),
    ]);
    expect(await host.overlay.neighbours('vxlan0')).toEqual([
      { dst: '10.1.0.9', lladdr: macOf(9), state: ['PERMANENT'] },
    ]);
  });

  it('lets bridge or macvlan carry the gateway, up and out of the packet filter', async () => {
    await makeNetwork();
    expect(await host.overlay.link(GATEWAY_NAME)).toMatchObject({
      mtu: MTU,
      address: '02:84:0a:01:00:01',
      flags: expect.arrayContaining(['UP']),
    });
    expect(await host.overlay.addresses(GATEWAY_NAME)).toEqual(['10.1.0.1/24 brd 10.1.0.255']);
    expect(await container.ping('10.1.0.1')).toBe(1);
    for (const name of await filters(host.overlay)) expect(await host.overlay.sysctl(name)).toBe('0');
  });

  it('replaces a stale file that no namespace is bound to', async () => {
    await writeFile(host.overlay.path, '');
    expect((await host.kernel.reconcile(host.wanted())).created).toBe(true);
    expect(await host.overlay.link('vxlan0')).toBeDefined();
  });

  it('sets the entries of many peers, IPv6 too', async () => {
    const many = Array.from({ length: 300 }, (_, i) => ({
      address: i % 2 ? `fd00::${i.toString(16)}` : `10.1.${1 + (i >> 8)}.${i & 255}`,
      mac: `02:84:0a:02:${(i >> 8).toString(16).padStart(2, '0')}:${(i & 255).toString(16).padStart(2, '0')}`,
      vtep: '10.99.0.2',
    })) as unknown as RemotePeer[];
    const wanted = host.wanted({ peers: many });
    await host.kernel.reconcile(wanted);
    const arp = await host.overlay.neighbours('vxlan0');
    const permanent = arp.filter(({ state }) => state.includes('PERMANENT'));
    const entries = permanent.map(({ dst, lladdr }) => `${dst} ${lladdr}`).sort();
    expect(entries).toEqual(many.map(({ address, mac }) => `${address} ${mac}`).sort());
    const fdb = (await host.overlay.fdb('vxlan0')).filter(({ dst }) => dst);
    expect(fdb.map(({ mac, dst }) => `${mac} ${dst}`).sort()).toEqual(
      many.map(({ mac, vtep }) => `${mac} ${vtep}`).sort(),
    );
    expect((await host.kernel.reconcile(wanted)).repairs).toEqual([]);
  });
});

const filters = async (netns: TestNetns) => {
  const names = (await netns.run('ls', '/proc/sys/net/bridge')).stdout.split('\n');
  return names
    .filter(name => /^bridge-nf-call-(ip|ip6|arp)tables$/.test(name))
    .map(name => `net.bridge.${name}`);
};

const STRANGE_MAC = '02:84:0a:01:00:63';
type DamageRow = readonly [string, (overlay: TestNetns) => Promise<void>, readonly (string | RegExp)[]];

const ANY_DAMAGES: readonly DamageRow[] = [
  ['gateway down', ns => ns.ip(`link set ${GATEWAY_NAME} down`), [`${GATEWAY_NAME}: down, wanted up`]],
  ['VXLAN down', ns => ns.ip('link set vxlan0 down'), [/^vxlan0: down, wanted up/]],
  ['loopback down', ns => ns.ip('link set lo down'), ['lo: down, wanted up']],
  ['VXLAN learning', ns => ns.ip(`link set vxlan0 type vxlan id ${VNI} learning`), ['vxlan0: learning']],
  [
    'local address',
    ns => ns.ip(`link set vxlan0 type vxlan id ${VNI} local 10.99.0.77`),
    ['vxlan0: local address 10.99.0.77, wanted 10.99.0.1'],
  ],
  [
    'gateway',
    ns => ns.ip(`address flush dev ${GATEWAY_NAME}`),
    [`${GATEWAY_NAME}: address 10.1.0.1/24 missing`],
  ],
  ['ARP missing', ns => ns.ip('neigh del 10.1.0.9 dev vxlan0'), ['ARP entry of 10.1.0.9 missing']],
  [
    'ARP wrong',
    ns => ns.ip(`neigh replace 10.1.0.9 lladdr ${STRANGE_MAC} dev vxlan0 nud permanent`),
    ['ARP entry of 10.1.0.9 wrong'],
  ],
  [
    'ARP stray',
    ns => ns.ip(`neigh add 10.1.0.99 lladdr ${STRANGE_MAC} dev vxlan0 nud permanent`),
    ['ARP entry of 10.1.0.99 not wanted'],
  ],
  [
    'FDB missing',
    ns => ns.bridge(`fdb del ${macOf(9)} dev vxlan0 dst 10.99.0.2 self`),
    [`FDB entry of ${macOf(9)} to 10.99.0.2 missing`],
  ],
  [
    'FDB wrong',
    ns => ns.bridge(`fdb replace ${macOf(9)} dev vxlan0 dst 10.99.0.3 self permanent`),
    [`FDB entry of ${macOf(9)} to 10.99.0.2 wrong`],
  ],
  [
    'FDB learnt, which would age',
    ns => ns.bridge(`fdb replace ${macOf(9)} dev vxlan0 dst 10.99.0.2 self dynamic`),
    [`FDB entry of ${macOf(9)} to 10.99.0.2 wrong`],
  ],
  [
    'FDB stray',
    ns => ns.bridge(`fdb add ${STRANGE_MAC} dev vxlan0 dst 10.99.0.3 self permanent`),
    [`FDB entry of ${STRANGE_MAC} to 10.99.0.3 not wanted`],
  ],
];

const BRIDGE_DAMAGES: readonly DamageRow[] = [
  [
    'multicast snooping',
    ns => ns.ip('link set br0 type bridge mcast_snooping 1'),
    ['br0: multicast snooping on, wanted off'],
  ],
  ['veth down', ns => ns.ip('link set sand002 down'), ['sand002: down, wanted up']],
  ['MTU', ns => ns.ip('link set sand002 mtu 1400'), [/^sand002: mtu 1400, wanted 1450/]],
  [
    'master of the VXLAN',
    ns => ns.ip('link set vxlan0 nomaster'),
    [/^vxlan0: no port of br0/, /flood|learn/],
  ],
  [
    'master of a veth',
    ns => ns.ip('link set sand002 nomaster'),
    ['sand002: no port of br0', /^sand002: learning on/, /^sand002: entry of .* missing$/],
  ],
  ['learning', ns => ns.bridge('link set dev sand002 learning on'), ['sand002: learning on, wanted off']],
  ['flooding', ns => ns.bridge('link set dev sand002 flood on'), ['sand002: flood wanted off']],
  ['no flooding', ns => ns.bridge('link set dev vxlan0 flood off'), ['vxlan0: flood wanted on']],
  [
    'static entry',
    ns => ns.bridge(`fdb del ${macOf(2)} dev sand002 master`),
    [`sand002: entry of ${macOf(2)} missing`],
  ],
  [
    'stray port',
    ns => ns.ip('link add sandfeed master br0 type veth peer name strayer'),
    ['sandfeed: port of no endpoint, removed'],
  ],
  ['VXLAN missing', ns => ns.ip('link del vxlan0'), ['vxlan0: missing', /ARP entry/, /FDB entry/]],
  [
    'VXLAN of another VNI',
    ns =>
      ns.ip(
        'link del vxlan0',
        'link add vxlan0 type vxlan id 77 dstport 4789 proxy nolearning local 10.99.0.1',
      ),
    [`vxlan0: VNI 77, wanted ${VNI}`, /ARP entry/, /FDB entry/],
  ],
  ['bridge missing', ns => ns.ip('link del br0'), ['br0: missing', /^vxlan0: no port/, /^sand002: no port/]],
  [
    'something else named br0',
    ns => ns.ip('link del br0', 'link add br0 type veth peer name br0-peer'),
    [/^br0: a veth, wanted a bridge/],
  ],
  ['no flooding', ns => ns.bridge('link set dev vxlan0 flood off'), ['vxlan0: flood wanted on']],
];

const MACVLAN_DAMAGES: readonly DamageRow[] = [
  [
    'alias gone',
    () => container.ip('link set sand0 alias ""'),
    ['sand002: not finished, or without its alias'],
  ],
  [
    'bare and down',
    () => container.ip('link set sand0 alias ""', 'link set sand0 down', 'address flush dev sand0'),
    ['sand002: not finished, or without its alias'],
  ],
  ['gateway missing', ns => ns.ip('link del gateway0'), ['gateway0: missing']],
  [
    'something else named gateway0',
    ns => ns.ip('link del gateway0', 'link add gateway0 type veth peer name other'),
    [/^gateway0: a veth, wanted a macvlan/],
  ],
  ["gateway's MAC", ns => ns.ip(`link set gateway0 address ${STRANGE_MAC}`), [/^gateway0: MAC/]],
  [
    'stray interface',
    async ns => {
      await ns.ip(
        `link add stray link vxlan0 netns ${container.path.split('/').at(-1)} type macvlan mode bridge`,
      );
      await container.ip('link set stray alias sandfeed');
    },
    ['sandfeed: port of no endpoint, removed'],
  ],
  ['a bridge of old', ns => ns.ip('link add br0 type bridge'), ['br0: a bridge, wanted none']],
];

describe('reconcile() of a damaged network', () => {
  it.each<DamageRow>([...ANY_DAMAGES, ...(ON_BRIDGE ? BRIDGE_DAMAGES : MACVLAN_DAMAGES)])(
    '%s: mends it and says so',
    async (_name, damage, repairs) => {
      const wanted = await makeNetwork();
      const before = await pictureOf(host.overlay);
      await damage(host.overlay);
      const report = await host.kernel.reconcile(wanted);
      expect(report.created).toBe(false);
      for (const repair of repairs) {
        const like = typeof repair === 'string' ? repair : expect.stringMatching(repair);
        expect(report.repairs).toContainEqual(like);
      }
      await until(async () => expect(await pictureOf(host.overlay)).toEqual(before) === undefined, {
        timeoutMs: 2_000,
        what: 'the overlay is as before',
      });
      expect((await host.kernel.reconcile(wanted)).repairs).toEqual([]);
      expect(await container.ping('10.1.0.1')).toBe(1);
    },
  );

  it('switches the packet filter off again and says so', async () => {
    const wanted = await makeNetwork();
    const [name] = await filters(host.overlay);
    if (!name) return; // without br_netfilter there is nothing to switch off
    await host.overlay.exec('sysctl', '-qw', `${name}=1`);
    const { repairs } = await host.kernel.reconcile(wanted);
    expect(repairs).toEqual([`${name.slice('net.bridge.'.length)}: on, wanted off`]);
    expect(await host.overlay.sysctl(name)).toBe('0');
  });

  it('switches IPv6 link-local addresses off again and says so', async () => {
    const wanted = await makeNetwork();
    await host.overlay.exec('sysctl', '-qw', 'net.ipv6.conf.all.addr_gen_mode=0');
    const { repairs } = await host.kernel.reconcile(wanted);
    expect(repairs).toEqual(['IPv6 link-local addresses: on, wanted off']);
    expect(await host.overlay.sysctl('net.ipv6.conf.all.addr_gen_mode')).toBe('1');
    expect(await host.overlay.sysctl('net.ipv6.conf.default.addr_gen_mode')).toBe('1');
  });

  if (!ON_BRIDGE)
    it.each<DamageRow>([
      [
        'VXLAN missing',
        ns => ns.ip('link del vxlan0'),
        ['vxlan0: missing', 'gateway0: missing', /ARP entry/],
      ],
      [
        'VXLAN of another VNI',
        ns =>
          ns.ip(
            'link del vxlan0',
            'link add vxlan0 type vxlan id 77 dstport 4789 proxy nolearning local 10.99.0.1',
          ),
        [`vxlan0: VNI 77, wanted ${VNI}`, /FDB entry/],
      ],
    ])('%s: mends it, and reports the endpoint that went along', async (_name, damage, repairs) => {
      const wanted = await makeNetwork();
      await damage(host.overlay);
      const report = await host.kernel.reconcile(wanted);
      for (const repair of repairs) expect(report.repairs).toContainEqual(expect.stringMatching(repair));
      expect(report.missingPorts).toEqual(['endpoint-2']);
      await plugOn(host, portIn(container, 2));
      expect(await host.kernel.reconcile(wanted)).toEqual({ created: false, repairs: [], missingPorts: [] });
      expect(await container.ping('10.1.0.1')).toBe(1);
    });

  it('reports an endpoint whose interface is gone, and plug() brings it back', async () => {
    const wanted = await makeNetwork();
    await (ON_BRIDGE ? host.overlay.ip('link del sand002') : container.ip('link del sand0'));
    expect((await host.kernel.reconcile(wanted)).missingPorts).toEqual(['endpoint-2']);
    await plugOn(host, portIn(container, 2));
    expect(await host.kernel.reconcile(wanted)).toMatchObject({ missingPorts: [], repairs: [] });
  });
});

/** All that reconcile answers for, without numbers that may change. */
async function pictureOf(overlay: TestNetns) {
  const links = await overlay.links();
  const devices = ON_BRIDGE ? ['vxlan0', 'sand002'] : ['vxlan0'];
  const ports = await Promise.all(devices.map(name => overlay.port(name)));
  const fdb = (await Promise.all(devices.map(name => overlay.fdb(name)))).flat();
  const inside = ON_BRIDGE ? [] : await container.links();
  return {
    inside: inside.map(({ ifname, address, flags }) => [ifname, address, flags.includes('UP')]),
    macs: links.map(({ ifname, address }) => [ifname === GATEWAY_NAME, address]).filter(([is]) => is),
    links: links
      .map(({ ifname, mtu, master, flags, linkinfo }) => ({
        ifname,
        mtu,
        master,
        up: flags.includes('UP'),
        kind: linkinfo?.info_kind,
        vxlan: ifname === 'vxlan0' && linkinfo?.info_data,
      }))
      .sort((a, b) => (a.ifname < b.ifname ? -1 : 1)),
    ports: ports.map(port => [port?.['learning'], port?.['flood']]),
    addresses: await overlay.addresses(GATEWAY_NAME),
    fdb: fdb
      .filter(({ dst, state }) => dst || state === 'static')
      .map(({ mac, dst, state }) => [mac, dst, state]),
    arp: await overlay.neighbours('vxlan0'),
  };
}

describe('reconcile() of a VNI that is taken', () => {
  it('throws ConflictError with VNI and port, and leaves nothing', async () => {
    await host.netns.ip(`link add foreign type vxlan id ${VNI} dstport ${PORT} local 10.99.0.1`);
    const error = await host.kernel.reconcile(host.wanted()).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ConflictError);
    expect((error as Error).message).toContain(`VNI ${VNI} on UDP port ${PORT}`);
    expect(existsSync(host.overlay.path)).toBe(false);
    await host.netns.ip('link del foreign');
    expect((await host.kernel.reconcile(host.wanted())).created).toBe(true);
  });
});

describe('removeNetwork()', () => {
  it('leaves no mount, no file and no link, and frees the VNI at once', async () => {
    const wanted = await makeNetwork();
    await host.kernel.removeNetwork(wanted.netns);
    expect(existsSync(wanted.netns)).toBe(false);
    expect((await run(['findmnt', wanted.netns])).stdout).toBe('');
    const startedAt = performance.now();
    expect((await host.kernel.reconcile(wanted)).created).toBe(true);
    expect(performance.now() - startedAt).toBeLessThan(500);
    await until(async () => !(await container.link('sand0')), { timeoutMs: 2_000 });
    await host.kernel.removeNetwork(wanted.netns);
    await host.kernel.removeNetwork(wanted.netns);
    expect((await host.netns.links()).map(({ ifname }) => ifname).sort()).toEqual(['eth0', 'lo']);
  });
});

describe('underlay()', () => {
  it('gives the interface that has the VTEP address', async () => {
    const { kernel } = host;
    expect(await kernel.underlay('10.99.0.1' as never)).toEqual({ ifName: 'eth0', mtu: 1500 });
    await expect(kernel.underlay('10.99.0.50' as never)).rejects.toThrow(NotFoundError);
  });

  it('is asked for once, and again after any change of links or addresses, however soon', async () => {
    const { netns } = host;
    const vtep = '10.99.0.1' as never;
    // A link that has just come up is announced once more, a moment later.
    const isUp = async () => (await netns.exec('ip', '-br', 'link', 'show', 'eth0')).includes(' UP ');
    await until(isUp, { what: 'eth0 is up' });
    let questions = 0;
    class CountedThread extends Worker {
      override postMessage(message: WorkerRequest): void {
        if (message.call === 'underlay') questions += 1;
        super.postMessage(message);
      }
    }
    const program = new URL('../../overlay/netlink/worker.js', import.meta.url);
    const thread = () => new CountedThread(program, { workerData: { hostNetns: netns.path } });
    const kernel = lab.own(await Kernel.start({ log, thread }));
    await kernel.underlay(vtep); // opens what hears of changes
    for (let i = 0; i < 20; i++) expect(await kernel.underlay(vtep)).toEqual({ ifName: 'eth0', mtu: 1500 });
    expect(questions).toBe(2);
    for (let mtu = 1480; mtu < 1500; mtu++) {
      await netns.ip(`link set eth0 mtu ${mtu}`);
      const three = await Promise.all([1, 2, 3].map(() => kernel.underlay(vtep)));
      for (const underlay of three) expect(underlay).toEqual({ ifName: 'eth0', mtu });
    }
    await netns.ip('address del 10.99.0.1/24 dev eth0');
    await expect(kernel.underlay(vtep)).rejects.toThrow(NotFoundError);
    await netns.ip('address add 10.99.0.1/24 dev eth0');
    expect(await kernel.underlay(vtep)).toMatchObject({ ifName: 'eth0' });
  });

  it('hears of the one change among more than its socket holds', async () => {
    const { kernel, netns } = host;
    const vtep = '10.99.0.1' as never;
    for (let i = 0; i < 3; i++) await kernel.underlay(vtep);
    const others = Array.from({ length: 2_000 }, (_, i) => `link set lo alias a${i}`);
    await netns.ip('link set eth0 mtu 1400', ...others);
    expect(await kernel.underlay(vtep)).toEqual({ ifName: 'eth0', mtu: 1400 });
    expect(await kernel.underlay(vtep)).toEqual({ ifName: 'eth0', mtu: 1400 });
  });
});

describe('applyPeers()', () => {
  it('sets and removes both entries, and removes none that has moved on', async () => {
    const wanted = await makeNetwork();
    const none = packPeers([]);
    const change = (set: RemotePeer[], remove: RemotePeer[]) =>
      host.kernel.applyPeers(wanted.netns, { set: packPeers(set), remove: packPeers(remove) });
    const targets = async () =>
      (await host.overlay.fdb('vxlan0')).filter(({ dst }) => dst).map(({ mac, dst }) => `${mac} ${dst}`);
    await change([peerAt('10.99.0.3', 9)], []);
    expect(await targets()).toEqual([`${macOf(9)} 10.99.0.3`]);
    await change([], [REMOTE]);
    expect(await targets()).toEqual([`${macOf(9)} 10.99.0.3`]);
    await change([], [peerAt('10.99.0.3', 9)]);
    await change([], [peerAt('10.99.0.3', 9)]);
    expect(await targets()).toEqual([]);
    expect(await host.overlay.neighbours('vxlan0')).toEqual([]);
    await host.kernel.applyPeers(wanted.netns, { set: none, remove: none });
  });
});
