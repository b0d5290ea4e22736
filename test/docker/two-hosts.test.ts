import { ON_BRIDGE } from '../support/data-plane.js';
import { DockerCalls } from '../support/docker-calls.js';
import type { DockerHost } from '../support/docker-host.js';
import { snapshot, untilNothingLeft } from '../support/leftovers.js';
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
import { until } from '../support/until.js';

interface Link {
  readonly ifname: string;
  readonly address: string;
  readonly mtu: number;
  readonly master?: string;
  readonly linkinfo?: { readonly info_kind: string; readonly info_data?: Record<string, unknown> };
  readonly addr_info?: readonly { readonly local: string; readonly prefixlen: number }[];
}

interface FdbEntry {
  readonly mac: string;
  readonly ifname: string;
  readonly dst?: string;
  readonly state?: string;
}

/** `10.0.0.2` → `02:84:0a:00:00:02`. */
const macOf = (address: string) =>
  ['02', '84', ...address.split('.').map(byte => Number(byte).toString(16).padStart(2, '0'))].join(':');

const linksIn = async (host: DockerHost, container: string) =>
  host.json<Link[]>(['ip', '-j', '-d', 'addr'], { netns: await netnsOf(host, container) });

describe('two hosts, one network', () => {
  let sand: SandLab;
  let netns: string;
  let vni: number;
  beforeAll(async () => {
    sand = await SandLab.start();
    for (const host of sand.lab.hosts) await createNamed(host, 'shop');
    const network = await sand.network('shop');
    netns = overlayPath(network.id);
    vni = network.vxlan_vni;
    await Promise.all(
      sand.lab.hosts.map((host, index) => runSleeper(host, `c${index + 1}`, '--network=shop')),
    );
  });
  afterAll(() => sand?.stop());

  it('`docker network create` of one name on both hosts stands for one network', async () => {
    expect(await sand.etcd.keys('/sc-net/network/')).toHaveLength(1);
    const bindings = await sand.etcd.entries('/sc-net/network.bindings/');
    const hosts = [...bindings.values()].map(value => JSON.parse(value).hostname);
    expect(hosts.sort()).toEqual(sand.lab.hosts.map(({ name }) => name));
  });

  it('containers ping each other by address in both directions', async () => {
    const addresses = await Promise.all([1, 2].map(n => addressIn(sand.host(n), `c${n}`, 'shop')));
    expect([...addresses].sort()).toEqual(['10.0.0.2', '10.0.0.3']);
    await ping(sand.host(1), 'c1', addresses[1] ?? '');
    await ping(sand.host(2), 'c2', addresses[0] ?? '');
  });

  it.each([1, 2])(
    'the interface in the container of host %i is sand0, with the MTU and MAC of its address',
    async n => {
      const address = await addressIn(sand.host(n), `c${n}`, 'shop');
      const links = await linksIn(sand.host(n), `c${n}`);
      expect(links.find(({ ifname }) => ifname === 'sand0')).toMatchObject({
        mtu: 1450,
        address: macOf(address),
        linkinfo: { info_kind: ON_BRIDGE ? 'veth' : 'macvlan' },
        addr_info: [{ local: address, prefixlen: 24 }],
      });
      const [settings] = await sand.host(n).dockerJson<[Record<string, never>]>('inspect', `c${n}`);
      expect(settings).toMatchObject({
        NetworkSettings: { Networks: { shop: { MacAddress: macOf(address) } } },
      });
    },
  );

  it('the overlay namespace holds gateway, VXLAN and ports, and permanent entries of the other host', async () => {
    const [here, there] = [sand.host(1), sand.host(2)];
    const [local, remote] = [await addressIn(here, 'c1', 'shop'), await addressIn(there, 'c2', 'shop')];
    const links = await here.json<Link[]>(['ip', '-j', '-d', 'link'], { netns });
    const vxlan = links.find(({ linkinfo }) => linkinfo?.info_kind === 'vxlan');
    const bridge = links.find(({ linkinfo }) => linkinfo?.info_kind === 'bridge');
    expect(vxlan).toMatchObject({
      mtu: 1450,
      ...(ON_BRIDGE ? { master: bridge?.ifname } : {}),
      linkinfo: { info_data: { id: vni, local: here.address, port: 4789, learning: false, proxy: true } },
    });
    const ports = links.filter(({ linkinfo }) => linkinfo?.info_kind === 'veth');
    const port = expect.objectContaining({ master: bridge?.ifname, mtu: 1450 });
    expect(ports).toEqual(ON_BRIDGE ? [port] : []);
    const fdb = await here.json<FdbEntry[]>(['bridge', '-j', 'fdb'], { netns });
    const dev = vxlan?.ifname;
    expect(fdb).toContainEqual(
      expect.objectContaining({ ifname: dev, mac: macOf(remote), dst: there.address, state: 'permanent' }),
    );
    expect(fdb.some(({ mac, dst }) => mac === macOf(local) && dst !== undefined)).toBe(false);
    const neighbours = await here.json(['ip', '-j', 'neigh', 'show', 'dev', dev ?? '', 'nud', 'all'], {
      netns,
    });
    expect(neighbours).toContainEqual(
      expect.objectContaining({ dst: remote, lladdr: macOf(remote), state: ['PERMANENT'] }),
    );
    expect(await here.exec(['cat', '/proc/sys/net/bridge/bridge-nf-call-iptables'], { netns })).toBe('0\n');
  });

  it.each([1, 2])('the own namespace of host %i has no interface of ours', async n => {
    const links = await sand.host(n).json<Link[]>(['ip', '-j', '-d', 'link']);
    expect(links.filter(({ ifname }) => /^(sand|xand|vxlan|vx)/.test(ifname))).toEqual([]);
    const kinds = links.map(({ linkinfo }) => linkinfo?.info_kind);
    expect(kinds).not.toContain('vxlan');
  });

  it('tcpdump shows VXLAN with the VNI and the own address as outer source on the underlay, and nowhere else', async () => {
    const [one, two] = [sand.host(1), sand.host(2)];
    await using cable = await one.tcpdump({ interface: 'eth0', filter: 'udp port 4789' });
    await using everywhere = await one.tcpdump({ interface: 'any', filter: 'udp port 4789 or icmp or arp' });
    await ping(one, 'c1', await addressIn(two, 'c2', 'shop'), 2);
    await until(() => cable.lines.length >= 8, { what: 'two requests and replies are captured' });
    const outer = (await cable.stop()).filter(line => line.includes('VXLAN'));
    expect(outer.length).toBeGreaterThanOrEqual(4);
    for (const line of outer) {
      expect(line).toMatch(
        /IP 10\.78\.0\.(11\.\d+ > 10\.78\.0\.12|12\.\d+ > 10\.78\.0\.11)\.4789: VXLAN, .* vni /,
      );
      expect(line).toMatch(new RegExp(`vni ${vni}$`));
    }
    // A packet's first line names the interface that it was seen on; the inner packet follows without one
    const devices = (await everywhere.stop()).map(line => /^\S+ (\S+)\s+(?:In|Out|B|M|P)\s/.exec(line)?.[1]);
    expect(new Set(devices.filter(Boolean))).toEqual(new Set(['eth0']));
  });

  it('nothing of a ping between containers of one host is on the underlay', async () => {
    const host = sand.host(1);
    await runSleeper(host, 'c3', '--network=shop');
    const address = await addressIn(host, 'c3', 'shop');
    await using cable = await host.tcpdump({ interface: 'any', filter: 'udp port 4789 or icmp' });
    await ping(host, 'c1', address);
    // The capture shows a packet that is sent after them, so it would show them
    await host.exec(['ping', '-c', '1', sand.host(2).address]);
    await until(() => cable.lines.some(line => line.includes('echo reply')), {
      what: 'the last packet is seen',
    });
    expect((await cable.stop()).filter(line => line.includes('VXLAN') || line.includes(address))).toEqual([]);
    await removeContainers(host, 'c3');
  });

  it('10 containers started at once on each host get 20 addresses and all reach each other', async () => {
    const names = Array.from({ length: 10 }, (_, index) => `many${index}`);
    const all = sand.lab.hosts.flatMap(host => names.map(name => ({ host, name })));
    await Promise.all(all.map(({ host, name }) => runSleeper(host, name, '--network=shop')));
    const addresses = await Promise.all(all.map(({ host, name }) => addressIn(host, name, 'shop')));
    expect(new Set(addresses).size).toBe(20);
    // All pings at once, each that gets no answer says so. The host's ping in the container's namespace: busybox's has
    // room for some 19 packets and is handed those of all others there too, so that it may lose its own answer
    const script = 'for a in "$@"; do { ping -c 1 -W 5 $a >/dev/null || echo $a; } & done; wait';
    const silent = await Promise.all(
      all.map(async ({ host, name }) =>
        host.exec(['sh', '-c', script, 'sh', ...addresses], { netns: await netnsOf(host, name) }),
      ),
    );
    expect(silent).toEqual(all.map(() => ''));
    await Promise.all(sand.lab.hosts.map(host => removeContainers(host, ...names)));
  }, 60_000);

  describe('teardown', () => {
    it('takes namespace, mount and links away within 1.5 s of the last container', async () => {
      const host = sand.host(1);
      const { mounts, links } = await snapshot(host);
      expect(mounts).toContain(netns);
      await removeContainers(host, 'c1');
      const removedAt = performance.now();
      const gone = async () => {
        const now = await snapshot(host);
        return (
          !now.mounts.includes(netns) && !now.namespaces.includes(netns) && now.links.length < links.length
        );
      };
      await until(gone, { timeoutMs: 1_500, what: 'the overlay namespace is gone', everyMs: 50 });
      expect(performance.now() - removedAt).toBeLessThan(1_500);
      const named = (await host.exec(['ip', 'netns', 'list'])).split('\n');
      expect(named.filter(line => line.startsWith('sc-ns-'))).toEqual([]);
    });

    it('a join within the linger second takes the namespace over', async () => {
      const host = sand.host(1);
      const calls = new DockerCalls(host);
      const network = await calls.network('linger');
      const first = await calls.joined(network);
      const inode = () => host.exec(['stat', '-L', '-c', '%i', overlayPath(network.PoolID)]);
      const before = await inode();
      await calls.remove(first);
      const second = await calls.joined(network);
      expect(await inode()).toBe(before);
      // Longer than the linger: the removal that was due does not come late
      const removed = until(async () => (await inode()) !== before, { timeoutMs: 1_200 });
      await expect(removed).rejects.toThrow('Not within');
      await calls.remove(second);
      await calls.deleteNetwork(network.NetworkID);
    });

    it('`docker network rm` on both hosts leaves no namespace, link, mount or etcd key', async () => {
      await removeContainers(sand.host(2), 'c2');
      await Promise.all(sand.lab.hosts.map(host => host.docker('network', 'rm', 'shop')));
      const { etcd } = sand;
      const clean = async () => {
        const snapshots = await Promise.all(sand.lab.hosts.map(host => snapshot(host, { etcd })));
        return (
          snapshots.every(each => each.keys.length + each.mounts.length + each.namespaces.length === 0) &&
          snapshots
        );
      };
      const before = await until(clean, { what: 'etcd is empty and no overlay namespace is there' });
      for (const host of sand.lab.hosts) await createNamed(host, 'shop');
      await Promise.all(sand.lab.hosts.map(host => runSleeper(host, 'again', '--network=shop')));
      await Promise.all(sand.lab.hosts.map(host => removeContainers(host, 'again')));
      await Promise.all(sand.lab.hosts.map(host => host.docker('network', 'rm', 'shop')));
      for (const [index, host] of sand.lab.hosts.entries()) {
        const was = before[index];
        if (was) await untilNothingLeft(host, was, { etcd, timeoutMs: 2_000 });
      }
    });
  });
});
