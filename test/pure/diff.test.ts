import type { EndpointId, MacAddress } from '../../model/scalars.js';
import { bridgeLayout } from '../../overlay/bridge-layout.js';
import { compare as compareIn, vxlanMismatch } from '../../overlay/diff.js';
import { EntryWriter } from '../../overlay/entries.js';
import { compareEntries, type FoundEntries, staticKey } from '../../overlay/entry-diff.js';
import type { Found, Macvlan } from '../../overlay/found.js';
import { macvlanLayout } from '../../overlay/macvlan-layout.js';
import { Writer } from '../../overlay/netlink/codec.js';
import type { Request } from '../../overlay/netlink/conn.js';
import { REMOVAL_GROUP } from '../../overlay/netlink/constants.js';
import type { Link } from '../../overlay/netlink/link.js';
import { setStatic } from '../../overlay/netlink/neighbour.js';
import { PeerRecords, packPeers } from '../../overlay/peers.js';
import type { RemotePeer, WantedNetwork } from '../../overlay/types.js';

const MAC = '02:84:0a:01:00:02' as MacAddress;
const wanted = {
  networkId: 'n1',
  vni: 4242,
  port: 4789,
  local: '10.99.0.1',
  mtu: 1450,
  gateway: '10.1.0.1/24',
  ports: [{ endpointId: 'e1' as EndpointId, overlayVeth: 'sand001', targetMac: MAC }],
  leaving: ['bye'],
} as unknown as WantedNetwork;

const link = (index: number, name: string, kind: string, change: object = {}): Link =>
  ({ index, name, kind, mtu: 1450, up: true, master: 0, group: 0, alias: '', peer: 0, ...change }) as Link;
const vxlan = { vni: 4242, port: 4789, local: '10.99.0.1', learning: false, proxy: true };
const port = (unicastFlood: boolean, learning = false) => ({ learning, unicastFlood });
const links = {
  lo: link(1, 'lo', '', { mtu: 65_536 }),
  br0: link(2, 'br0', 'bridge'),
  vxlan0: link(3, 'vxlan0', 'vxlan', { master: 2, port: port(true), vxlan }),
  sand001: link(4, 'sand001', 'veth', { master: 2, port: port(false) }),
};
const right: Found = {
  links: Object.values(links),
  addresses: [{ index: 2, address: '10.1.0.1/24' as never }],
  statics: new Set([staticKey(4, MAC)]),
  macvlans: [],
};
const withLink = (name: keyof typeof links, change: object): Found => ({
  ...right,
  links: right.links.map(each => (each === links[name] ? { ...each, ...change } : each)),
});
const at = { gateway: 2, vxlan: 3 };
const compare = (found: Found, wish = wanted, indexes = at) => compareIn(found, wish, indexes, bridgeLayout);

describe('compare()', () => {
  it('finds nothing where all is right', () => {
    expect(compare(right, wanted, at)).toEqual({
      repairs: [],
      requests: [],
      marks: [],
      missingPorts: [],
      unfinished: [],
      strangers: [],
      foreign: [],
      retired: new Set(),
    });
  });

  it.each<[string, Found, string, string]>([
    ['lo down', withLink('lo', { up: false }), 'lo: down, wanted up', 'dev 1 up true'],
    ['bridge down', withLink('br0', { up: false }), 'br0: down, wanted up', 'dev 2 up'],
    ['bridge MTU', withLink('br0', { mtu: 1500 }), 'br0: mtu 1500, wanted 1450', 'mtu 1450'],
    ['VXLAN down', withLink('vxlan0', { up: false }), 'vxlan0: down, wanted up', 'dev 3 up'],
    ['VXLAN no port', withLink('vxlan0', { master: 0 }), 'vxlan0: no port of br0', 'master 2'],
    [
      'all of a link in one request',
      withLink('sand001', { up: false, mtu: 9000, master: 7 }),
      'sand001: down, wanted up; mtu 9000, wanted 1450; no port of br0',
      'dev 4 up true mtu 1450 master 2',
    ],
    [
      'VXLAN not flooded',
      withLink('vxlan0', { port: port(false) }),
      'vxlan0: flood wanted on',
      'bridge_slave',
    ],
    ['veth flooded', withLink('sand001', { port: port(true) }), 'sand001: flood wanted off', 'bridge_slave'],
    [
      'port learns',
      withLink('sand001', { port: port(false, true) }),
      'sand001: learning on, wanted off',
      'learning off',
    ],
    [
      'VXLAN learns',
      withLink('vxlan0', { vxlan: { ...vxlan, learning: true } }),
      'vxlan0: learning',
      'nolearning',
    ],
    [
      'VXLAN without local address',
      withLink('vxlan0', { vxlan: { ...vxlan, local: undefined } }),
      'vxlan0: local address none, wanted 10.99.0.1',
      'local 10.99.0.1',
    ],
    [
      'gateway on another link',
      { ...right, addresses: [{ index: 3, address: '10.1.0.1/24' as never }] },
      'br0: address 10.1.0.1/24 missing',
      'address add 10.1.0.1/24 dev index 2',
    ],
    [
      'static entry of another port',
      { ...right, statics: new Set([staticKey(3, MAC)]) },
      `sand001: entry of ${MAC} missing`,
      'master static',
    ],
  ])('%s', (_name, found, repair, request) => {
    const { repairs, requests, marks, missingPorts, strangers } = compare(found, wanted, at);
    expect(repairs).toEqual([repair]);
    expect([...requests, ...marks].map(({ what }) => what)).toEqual([expect.stringContaining(request)]);
    expect([missingPorts, strangers]).toEqual([[], []]);
  });

  it('a port without its static entry, the last step of making one: unfinished', () => {
    expect(compare({ ...right, statics: new Set() }, wanted, at).unfinished).toEqual(wanted.ports);
    expect(compare(right, wanted, at).unfinished).toEqual([]);
  });

  it.each<[string, Link[], string[], string[]]>([
    ['no veth', [links.br0], ['e1'], []],
    ['another kind of its name', [link(4, 'sand001', 'dummy')], ['e1'], []],
    ['a stranger in the bridge', [links.sand001, link(5, 'sand9', 'veth', { master: 2 })], [], ['sand9']],
    ["somebody's veth in the bridge", [links.sand001, link(5, 'x', 'veth', { master: 2 })], [], []],
    ['one that leaves', [links.sand001, link(5, 'bye', 'veth', { master: 2 })], [], []],
    ['a veth beside the bridge', [links.sand001, link(5, 'x', 'veth')], [], []],
    ['a dummy of somebody', [links.sand001, link(5, 'x', 'dummy', { master: 2 })], [], []],
  ])('%s: missing ports and strangers', (_name, some, missing, strangers) => {
    const found = { ...right, links: [links.lo, links.br0, links.vxlan0, ...some] };
    const { missingPorts, strangers: names } = compare(found);
    expect([missingPorts, names.map(({ name }) => name)]).toEqual([missing, strangers]);
  });
});

it('compare() tells what somebody else has put into the bridge', () => {
  const links = [...right.links, link(5, 'x', 'veth', { master: 2 }), link(6, 'y', 'dummy', { master: 2 })];
  const foreign = ['x: a veth in br0 that is none of ours', 'y: a dummy in br0 that is none of ours'];
  expect(compare({ ...right, links }, wanted, at)).toMatchObject({ repairs: [], strangers: [], foreign });
});

it('compare() tells that something was retired and not removed', () => {
  const links = [...right.links, link(9, 'yand009', 'veth', { group: REMOVAL_GROUP })];
  expect(compare({ ...right, links }, wanted, at)).toMatchObject({
    retired: new Set(['here']),
    strangers: [],
  });
});

describe('compare() of macvlans', () => {
  const port = wanted.ports[0];
  const macvlan = (name: string, change: object = {}) =>
    ({ ...link(7, name, 'macvlan'), mac: MAC, alias: 'sand001', peer: 3, nsid: 5, ...change }) as Macvlan;
  const trunk = [
    links.lo,
    link(2, 'gateway0', 'macvlan', { peer: 3 }),
    { ...links.vxlan0, master: 0, port: undefined },
  ];
  const gateway = { index: 2, address: '10.1.0.1/24' as never };
  const seen = (macvlans: Macvlan[], some = trunk): Found => ({
    links: some,
    addresses: [gateway],
    statics: new Set(),
    macvlans,
  });
  const compareMacvlan = (found: Found) => compareIn(found, wanted, at, macvlanLayout);

  it('finds nothing where all is right, whatever name the interface bears', () => {
    expect(compareMacvlan(seen([macvlan('eth0')]))).toEqual({
      repairs: [],
      requests: [],
      marks: [],
      missingPorts: [],
      unfinished: [],
      strangers: [],
      foreign: [],
      retired: new Set(),
    });
  });

  it.each<[string, Macvlan[], object]>([
    ['none at all', [], { missingPorts: ['e1'] }],
    [
      'on its way out',
      [macvlan('x', { group: REMOVAL_GROUP })],
      { missingPorts: ['e1'], retired: new Set([5]) },
    ],
    ['another MAC, by its alias', [macvlan('eth0', { mac: '02:00:00:00:00:01' })], { missingPorts: [] }],
    ['without its alias: unfinished', [macvlan('eth0', { alias: '' })], { unfinished: [port] }],
    [
      'one that leaves',
      [macvlan('eth0'), macvlan('a', { alias: 'bye', mac: '' })],
      { strangers: [], foreign: [] },
    ],
    [
      'of nobody',
      [macvlan('eth0'), macvlan('a', { alias: 'sand9', mac: '' })],
      { strangers: [expect.objectContaining({ name: 'sand9' })] },
    ],
    [
      "somebody's",
      [macvlan('eth0'), macvlan('a', { alias: '', mac: '' })],
      { strangers: [], foreign: ['a: a macvlan on vxlan0 that is none of ours'] },
    ],
  ])('%s', (_name, macvlans, differences) => {
    expect(compareMacvlan(seen(macvlans))).toMatchObject(differences);
  });

  it('lifts what fell with the MTU of the VXLAN, and leaves what a container has lowered', () => {
    const some = trunk.map(each => ({ ...each, mtu: 1300 }));
    const { repairs, unfinished } = compareMacvlan(seen([macvlan('eth0', { mtu: 1300 })], some));
    expect(repairs).toContain('sand001: mtu 1300, with that of vxlan0');
    expect(unfinished).toEqual([port]);
    for (const each of [seen([macvlan('eth0', { mtu: 1200 })], some), seen([macvlan('eth0', { mtu: 1300 })])])
      expect(compareMacvlan(each).unfinished).toEqual([]);
  });

  it('wants the VXLAN to be no port', () => {
    const some = trunk.map(each => (each.name === 'vxlan0' ? { ...each, master: 9 } : each));
    const { repairs, requests } = compareMacvlan(seen([macvlan('eth0')], some));
    expect([repairs, requests.map(({ what }) => what)]).toEqual([
      ['vxlan0: a port, wanted none'],
      [expect.stringContaining('master 0')],
    ]);
  });
});

describe('vxlanMismatch()', () => {
  it.each<[string, object, string | undefined]>([
    ['as wanted', {}, undefined],
    [
      'learning and without local can be mended',
      { vxlan: { ...vxlan, learning: true, local: undefined } },
      undefined,
    ],
    ['kind', { kind: 'dummy' }, 'vxlan0: a dummy, wanted a VXLAN'],
    ['VNI', { vxlan: { ...vxlan, vni: 7 } }, 'vxlan0: VNI 7, wanted 4242'],
    ['port', { vxlan: { ...vxlan, port: 8472 } }, 'vxlan0: port 8472, wanted 4789'],
    ['proxy', { vxlan: { ...vxlan, proxy: false } }, 'vxlan0: answers no ARP'],
  ])('%s', (_name, change, mismatch) => {
    expect(vxlanMismatch({ ...links.vxlan0, ...change }, wanted)).toBe(mismatch);
  });
});

function packetOf(...requests: readonly Request[]): Buffer {
  const writer = new Writer();
  for (const { type, write } of requests) {
    writer.begin(type, 0, 1);
    write(writer);
    writer.end();
  }
  return writer.bytes();
}

describe('compareEntries()', () => {
  const peer = (address: string, mac: string, vtep: string) => ({ address, mac, vtep }) as RemotePeer;
  const peers = [
    peer('10.1.0.9', '02:84:0a:01:00:09', '10.99.0.2'),
    peer('10.1.0.10', '02:84:0a:01:00:0a', '10.99.0.3'),
    peer('fd00::9', '02:84:0a:01:00:0b', 'fd99::2'),
  ];
  const [p9, p10] = peers as [RemotePeer, RemotePeer];
  /** A dump's packet has the same form as the messages that made its entries. */
  const entriesOf = (kind: 'arp' | 'fdb', some: readonly RemotePeer[], index: number) => {
    const writer = new EntryWriter(new PeerRecords(packPeers(some)), index);
    some.forEach((_, n) => {
      writer[kind](n, 1);
    });
    return Buffer.from(some.length > 0 ? writer.bytes() : []);
  };
  const arpOf = (some: readonly RemotePeer[], index = 3) => entriesOf('arp', some, index);
  const fdbOf = (some: readonly RemotePeer[], index = 3) => entriesOf('fdb', some, index);
  const found = (arp: Buffer, fdb: Buffer): FoundEntries => ({ arp: [arp], fdb: [fdb] });
  const none = Buffer.alloc(0);
  const differ = (entries: FoundEntries, some = peers) => {
    const { repairs, requests, unset } = compareEntries(entries, new PeerRecords(packPeers(some)), 3);
    return { repairs, requests: requests.map(({ what }) => what), unset: [...unset] };
  };
  const stranger = peer('10.1.0.99', '02:84:0a:01:00:63', '10.99.0.9');

  it('finds nothing where all is right, entries of other links aside, each seen once or twice', () => {
    const all = {
      arp: [arpOf(peers), arpOf([stranger], 2)],
      fdb: [fdbOf(peers), fdbOf([stranger], 4)],
    };
    expect(differ(all)).toEqual({ repairs: [], requests: [], unset: [] });
    const twice = { arp: [...all.arp, ...all.arp], fdb: [...all.fdb, ...all.fdb] };
    expect(differ(twice)).toEqual({ repairs: [], requests: [], unset: [] });
  });

  it.each<
    [string, FoundEntries, readonly RemotePeer[], { repairs: string[]; requests: string[]; unset: number[] }]
  >([
    ['nothing wanted, nothing found', found(none, none), [], { repairs: [], requests: [], unset: [] }],
    [
      'all missing',
      found(none, none),
      [p9],
      {
        repairs: ['ARP entry of 10.1.0.9 missing', 'FDB entry of 02:84:0a:01:00:09 to 10.99.0.2 missing'],
        requests: [],
        unset: [0],
      },
    ],
    [
      'ARP with another MAC',
      found(arpOf([p9, { ...p10, mac: stranger.mac }]), fdbOf([p9, p10])),
      [p9, p10],
      { repairs: ['ARP entry of 10.1.0.10 wrong'], requests: [], unset: [1] },
    ],
    [
      'FDB to another VTEP',
      found(arpOf([p9, p10]), fdbOf([{ ...p9, vtep: p10.vtep }, p10])),
      [p9, p10],
      { repairs: ['FDB entry of 02:84:0a:01:00:09 to 10.99.0.2 wrong'], requests: [], unset: [0] },
    ],
    [
      'strays',
      found(arpOf([p9, stranger]), fdbOf([p9, stranger])),
      [p9],
      {
        repairs: [
          'ARP entry of 10.1.0.99 not wanted',
          'FDB entry of 02:84:0a:01:00:63 to 10.99.0.9 not wanted',
        ],
        requests: ['neigh del 10.1.0.99', 'fdb del 02:84:0a:01:00:63 dst 10.99.0.9'],
        unset: [],
      },
    ],
  ])('%s', (_name, entries, some, differences) => {
    expect(differ(entries, [...some])).toEqual(differences);
  });

  it("gathers the static entries of the bridge's ports, and takes them for no stray", () => {
    const entries = found(none, packetOf(setStatic(4, MAC), setStatic(5, p9.mac)));
    const { statics, repairs } = compareEntries(entries, new PeerRecords(packPeers([])), 3);
    expect([...statics]).toEqual([staticKey(4, MAC), staticKey(5, p9.mac)]);
    expect(repairs).toEqual([]);
  });
});
