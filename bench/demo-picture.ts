/** The demo's drawing: two hosts side by side, from the containers down to the underlay, in 100 columns. */
import type { HostFacts } from './demo-facts.js';
import { CABLE_AT, type Colour, cable, clip, drawBox, type Paint, sideBySide } from './drawing.js';

export interface PingFacts {
  readonly from: string;
  readonly to: string;
  readonly sent: number;
  readonly received: number;
  /** Milliseconds, as ping prints them. */
  readonly least: string;
  readonly mean: string;
  readonly most: string;
}

export interface DemoFacts {
  readonly network: string;
  readonly one: HostFacts;
  readonly two: HostFacts;
  readonly pings: readonly PingFacts[];
  /** Number of keys in etcd. */
  readonly keys: number;
}

const WIDTH = 100;
const GAP = 2;
const HOST_WIDTH = (WIDTH - GAP) / 2;
const INNER_WIDTH = HOST_WIDTH - 4;
const LABEL = 7;

const labelled = (label: string, text: string) => `${label.padEnd(LABEL)}${text}`;

function drawHost(facts: HostFacts, number: number): string[] {
  const { container, bridge, vxlan, underlay } = facts;
  const inner = [
    ...drawBox(
      {
        title: `container ${container.name}`,
        lines: [
          labelled(container.ifName, `${container.address}   MTU ${container.mtu}`),
          labelled('', container.mac),
        ],
      },
      INNER_WIDTH,
    ),
    ...cable(INNER_WIDTH, `veth pair, ${facts.veths.join(', ')}`),
    ...drawBox({ title: 'overlay namespace', lines: overlayLines(facts) }, INNER_WIDTH),
    ...cable(INNER_WIDTH, `UDP ${vxlan.port}, outer source ${vxlan.local}`),
    labelled(underlay.ifName, `${underlay.address}   MTU ${underlay.mtu}   VTEP`),
  ];
  const title = `Docker host ${number} · ${facts.hostName}`;
  const box = drawBox({ title, lines: inner }, HOST_WIDTH);
  const bottom = box.pop() ?? '';
  const at = CABLE_AT + 2;
  return [...box, `${bottom.slice(0, at)}┬${bottom.slice(at + 1)}`];

  function overlayLines({ arp, fdb }: HostFacts): string[] {
    return [
      labelled('br0', `${bridge.address}   MTU ${bridge.mtu}`),
      labelled('', bridge.mac),
      labelled('vxlan0', `VNI ${vxlan.vni}   MTU ${vxlan.mtu}   ${vxlan.learning ? '' : 'no '}learning`),
      ...arp.map(({ address, mac }) => labelled('ARP', `${address} → ${mac}`)),
      ...fdb.map(({ mac, vtep }) => labelled('FDB', `${mac} → ${vtep}`)),
    ];
  }
}

/** The wire below both hosts, with what is said on it. */
function drawUnderlay({ one, two }: DemoFacts): string[] {
  const left = CABLE_AT + 2;
  const right = HOST_WIDTH + GAP + left;
  const words = ` VXLAN VNI ${one.vxlan.vni}, UDP ${one.vxlan.port} `;
  const wire = clip(`─${words}`, words.length + 1).padEnd(right - left - 1, '─');
  const ends = `${' '.repeat(left)}└${wire}┘`;
  return [ends, `${' '.repeat(left)} underlay: ${one.underlay.address} to ${two.underlay.address}`];
}

export function drawDemo(facts: DemoFacts, paint: Paint): string[] {
  const { network, one, two, pings, keys } = facts;
  const file = one.netns.slice(one.netns.lastIndexOf('/') + 1);
  const picture = [...sideBySide(drawHost(one, 1), drawHost(two, 2), GAP), ...drawUnderlay(facts)];
  const lines = [
    `network ${network}   VNI ${one.vxlan.vni}   MTU ${one.bridge.mtu}   gateway ${one.bridge.address}   ${keys} keys in etcd`,
    `overlay namespace on both hosts: ${file}`,
    '',
    ...picture,
    '',
    ...pings.map(describePing),
  ];
  return lines.map(line => colourWords(line, facts, paint));
}

function describePing({ from, to, sent, received, least, mean, most }: PingFacts): string {
  const times = received > 0 ? `   round trip ${least} / ${mean} / ${most} ms (least, mean, most)` : '';
  return `ping ${`${from} → ${to}`.padEnd(12)} ${received} of ${sent} answered${times}`;
}

/** Whatever belongs to a container bears its host's colour on both sides: so the entries are seen to match. */
function colourWords(line: string, { one, two }: DemoFacts, paint: Paint): string {
  const words = new Map<string, Colour>();
  for (const [host, colour] of [
    [one, 'cyan'],
    [two, 'yellow'],
  ] as const) {
    const address = host.container.address.split('/')[0] ?? '';
    for (const word of [host.container.mac, address, host.vxlan.local]) words.set(word, colour);
  }
  const patterns = [...words.keys()].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(
    `(?<![\\d.])(${patterns.map(each => each.replaceAll('.', '\\.')).join('|')})(?![\\d.])`,
    'g',
  );
  return line.replace(pattern, word => paint(word, words.get(word) ?? 'bold'));
}
