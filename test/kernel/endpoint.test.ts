import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ConflictError, InvalidError } from '../../model/errors.js';
import type { PortTarget, WantedPort } from '../../overlay/types.js';
import { GATEWAY_NAME, ON_BRIDGE } from '../support/data-plane.js';
import { NetnsLab, type TestNetns } from '../support/netns.js';
import { until } from '../support/until.js';
import {
  MTU,
  macOf,
  plugOn,
  portIn,
  portTo,
  startHost,
  type TestHost,
  unplugFrom,
} from './network-fixture.js';

let lab: NetnsLab;
let host: TestHost;
let container: TestNetns;

beforeEach(async () => {
  lab = await NetnsLab.open();
  const [netns] = await lab.hosts('h1');
  host = await startHost(lab, netns, 1);
  container = await lab.netns('c1');
  await host.kernel.reconcile(host.wanted());
});
afterEach(() => lab[Symbol.asyncDispose]());

const plug = (port: WantedPort) => plugOn(host, port);
const unplug = (port: WantedPort) => unplugFrom(host, port);
const portOnHost = (n: number) => portTo({ kind: 'host', name: `tgt${n}` } as unknown as PortTarget, n);
const names = async (netns: TestNetns) => (await netns.links()).map(({ ifname }) => ifname).sort();
/** Interfaces of the overlay's namespace: a macvlan has no end there. */
const overlayWith = (...ports: readonly string[]) => [
  GATEWAY_NAME,
  'lo',
  ...(ON_BRIDGE ? ports : []),
  'vxlan0',
];
const untilNamesAre = (netns: TestNetns, wanted: readonly string[]) =>
  until(async () => `${await names(netns)}` === `${wanted}`, { timeoutMs: 1_000, what: `only ${wanted}` });

describe('plug() into the host', () => {
  it('leaves the end there under its name, with MAC and MTU, and down', async () => {
    expect(await plug(portOnHost(2))).toEqual({ ifName: 'tgt2' });
    const link = await host.netns.link('tgt2');
    expect(link).toMatchObject({
      address: macOf(2),
      mtu: MTU,
      linkinfo: { info_kind: ON_BRIDGE ? 'veth' : 'macvlan' },
    });
    expect(link?.flags).not.toContain('UP');
    expect(await host.netns.addresses('tgt2')).toEqual([]);
    if (!ON_BRIDGE) {
      expect(link).toMatchObject({ ifalias: 'sand002' });
      return;
    }
    const near = { master: 'br0', mtu: MTU, flags: expect.arrayContaining(['UP']) };
    expect(await host.overlay.link('sand002')).toMatchObject(near);
    expect(await host.overlay.port('sand002')).toMatchObject({ learning: false, flood: false });
    expect(await host.overlay.fdb('sand002')).toContainEqual(
      expect.objectContaining({ mac: macOf(2), state: 'static' }),
    );
  });

  it('keeps a pair that is whole', async () => {
    await plug(portOnHost(2));
    const before = await host.netns.link('tgt2');
    expect(await plug(portOnHost(2))).toEqual({ ifName: 'tgt2' });
    expect(await host.netns.link('tgt2')).toEqual(before);
  });

  it('says so when the end is not what it was made as', async () => {
    await plug(portOnHost(2));
    await host.netns.ip(`link set tgt2 address ${macOf(77)}`);
    await expect(plug(portOnHost(2))).rejects.toThrow(ConflictError);
  });
});

describe('plug() into a namespace', () => {
  it('names the ends sand0 and sand1, addresses them with broadcast, and they are up', async () => {
    expect(await plug(portIn(container, 2))).toEqual({ ifName: 'sand0' });
    expect(await plug(portIn(container, 3))).toEqual({ ifName: 'sand1' });
    const link = { address: macOf(2), mtu: MTU, flags: expect.arrayContaining(['UP', 'LOWER_UP']) };
    expect(await container.link('sand0')).toMatchObject(link);
    expect(await container.addresses('sand0')).toEqual(['10.1.0.2/24 brd 10.1.0.255']);
    expect(await container.addresses('sand1')).toEqual(['10.1.0.3/24 brd 10.1.0.255']);
  });

  it('lets two containers of one host reach each other', async () => {
    const other = await lab.netns('c2');
    await plug(portIn(container, 2));
    await plug(portIn(other, 3));
    expect(await container.ping('10.1.0.3')).toBe(1);
  });

  it('keeps a pair that is whole, and brings its end up and its address back', async () => {
    await plug(portIn(container, 2));
    const index = (await container.link('sand0'))?.ifindex;
    await container.ip('address flush dev sand0', 'link set sand0 down');
    expect(await plug(portIn(container, 2))).toEqual({ ifName: 'sand0' });
    expect(await container.link('sand0')).toMatchObject({
      ifindex: index,
      flags: expect.arrayContaining(['UP']),
    });
    expect(await container.addresses('sand0')).toEqual(['10.1.0.2/24 brd 10.1.0.255']);
  });

  it('sends no multicast of its own to the other endpoints', async () => {
    await plug(portIn(container, 2));
    const linkLocal = await container.run('ip', '-6', 'address', 'show', 'dev', 'sand0');
    expect(linkLocal.stdout).toBe('');
    expect((await host.overlay.run('ip', '-6', 'address', 'show', 'scope', 'link')).stdout).toBe('');
  });

  it('finds an end again that was renamed', async () => {
    await plug(portIn(container, 2));
    await container.ip('link set sand0 down', 'link set sand0 name eth7');
    expect(await plug(portIn(container, 2))).toEqual({ ifName: 'eth7' });
    expect(await names(container)).toEqual(['eth7', 'lo']);
  });

  it('touches no interface with the same MAC of another network, and unplug() neither', async () => {
    await container.ip(`link add mine address ${macOf(2)} type veth peer name yours`);
    expect(await plug(portIn(container, 2))).toEqual({ ifName: 'sand0' });
    expect(await names(container)).toEqual(['lo', 'mine', 'sand0', 'yours']);
    await unplug(portIn(container, 2));
    await untilNamesAre(container, ['lo', 'mine', 'yours']);
  });

  it('throws InvalidError naming ns_handle_path for what is no namespace', async () => {
    const path = join(lab.directory, 'plain');
    await writeFile(path, '');
    for (const wrong of [path, '/nonexistent/ns']) {
      const target = { kind: 'netns', path: wrong, address: '10.1.0.2/24' } as unknown as PortTarget;
      const error = await plug(portTo(target, 2)).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(InvalidError);
      expect(error).toMatchObject({ facts: { field: 'ns_handle_path' } });
    }
    expect(await names(host.overlay)).toEqual(overlayWith());
  });
});

describe('unplug()', () => {
  const kinds = ['host', 'netns'] as const;
  const portOf = (kind: (typeof kinds)[number], n: number) =>
    kind === 'host' ? portOnHost(n) : portIn(container, n);

  it.each(kinds)('from a %s: the name is free and the end is down before it answers', async kind => {
    const { ifName } = await plug(portOf(kind, 2));
    const target = kind === 'host' ? host.netns : container;
    await unplug(portOf(kind, 2));
    const left = await target.links();
    expect(left.map(({ ifname }) => ifname)).not.toContain(ifName);
    expect(left.find(({ address }) => address === macOf(2))?.flags ?? []).not.toContain('UP');
  });

  it.each(kinds)('from a %s: leaves nothing within a second', async kind => {
    await plug(portOf(kind, 2));
    await plug(portOf(kind, 3));
    await unplug(portOf(kind, 2));
    await unplug(portOf(kind, 3));
    await unplug(portOf(kind, 3));
    await untilNamesAre(host.overlay, overlayWith());
    await untilNamesAre(host.netns, ['eth0', 'lo']);
    await untilNamesAre(container, ['lo']);
  });

  it.each(kinds)('from a %s: the same endpoint can be plugged at once, and stays', async kind => {
    const { ifName } = await plug(portOf(kind, 2));
    const unplugged = unplug(portOf(kind, 2));
    const again = plug(portOf(kind, 2));
    await unplugged;
    expect(await again).toEqual({ ifName });
    await untilNamesAre(host.overlay, overlayWith('sand002'));
    const wanted = host.wanted({ ports: [portOf(kind, 2)] });
    expect(await host.kernel.reconcile(wanted)).toEqual({ created: false, repairs: [], missingPorts: [] });
  });

  it('a successor with the same MAC in the same container works, also after the removal', async () => {
    await plug(portIn(container, 2));
    const successor = { ...portIn(container, 2), overlayVeth: 'sand099' as never };
    const unplugged = unplug(portIn(container, 2));
    const plugged = plug(successor);
    await unplugged;
    expect(await plugged).toEqual({ ifName: 'sand0' });
    await untilNamesAre(host.overlay, overlayWith('sand099'));
    const successors = ON_BRIDGE ? await host.overlay.fdb('sand099') : await container.links();
    const mark = ON_BRIDGE ? { mac: macOf(2) } : { address: macOf(2), ifalias: 'sand099' };
    expect(successors).toContainEqual(expect.objectContaining(mark));
    expect(await container.ping('10.1.0.1')).toBe(1);
  });

  it('of an endpoint whose container is gone leaves nothing', async () => {
    await plug(portIn(container, 2));
    await container.ip('link del sand0');
    await unplug(portIn(container, 2));
    await untilNamesAre(host.overlay, overlayWith());
  });

  it('that an end of the agent interrupted is finished by the next reconcile', async () => {
    await plug(portOnHost(2));
    await unplug(portOnHost(2));
    await host.kernel[Symbol.asyncDispose]();
    const next = await startHost(lab, host.netns, 1);
    await next.kernel.reconcile(next.wanted());
    await untilNamesAre(host.overlay, overlayWith());
    await untilNamesAre(host.netns, ['eth0', 'lo']);
  });
});
