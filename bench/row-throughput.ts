/** TCP from container to container across hosts, against a VXLAN and a bridge made by hand on the same hosts. */
import type { HostNamespaces } from '../test/support/host-namespaces.js';
import { until } from '../test/support/until.js';
import { type BenchHost, BenchLab } from './lab.js';
import type { Endpoint } from './plugin-client.js';
import { missing } from './requirements.js';
import { median, type Row, times } from './row.js';

const ROUNDS = 10;
const SECONDS = 2;
const OURS = 'ours';
const HAND_MADE = 'handmade';
const NF_CALLS = ['iptables', 'ip6tables', 'arptables'];
const SERVER_READY_MS = 3_000;

export const throughputRow: Row = {
  name: 'throughput',
  what: `one TCP stream across two hosts, ${ROUNDS} rounds of ${SECONDS} s each, in turn with a hand-made overlay`,
  async run(say) {
    const lacking = await missing(['iperf3']);
    if (lacking.length > 0) throw new Error(lacking.join('; '));
    await using lab = await BenchLab.start(2);
    const ours = await makeOurs(lab);
    const theirs = await makeByHand(lab);
    const [client, server] = [lab.host(0).namespaces, lab.host(1).namespaces];
    for (const netns of [OURS, HAND_MADE]) await serve(server, netns);
    const rates = { [OURS]: [] as number[], [HAND_MADE]: [] as number[] };
    for (const round of times(ROUNDS)) {
      const order = round % 2 === 0 ? ([OURS, HAND_MADE] as const) : ([HAND_MADE, OURS] as const);
      for (const netns of order) {
        const target = netns === OURS ? ours : theirs;
        rates[netns].push(await gigabits(client, netns, target));
      }
      say(
        `round ${round + 1}: ${rates[OURS].at(-1)?.toFixed(2)} against ${rates[HAND_MADE].at(-1)?.toFixed(2)} Gbit/s`,
      );
    }
    const ratio = median(rates[OURS].map((rate, round) => rate / (rates[HAND_MADE][round] ?? Number.NaN)));
    return [
      {
        what: 'TCP, one stream, across hosts',
        unit: 'Gbit/s',
        ours: { p50: median(rates[OURS]), count: ROUNDS },
        floor: { what: 'VXLAN + bridge by hand', value: median(rates[HAND_MADE]) },
        pairedRatio: ratio,
        note: 'the ratio is the median of the rounds, each of which has both',
        budget: '≥ 0.97 × floor',
        met: ratio >= 0.97,
      },
    ];
  },
};

/** Our network with a namespace for a container on each host; answers the address on the second. */
async function makeOurs(lab: BenchLab): Promise<string> {
  let last = '';
  for (const [index, host] of lab.hosts.entries()) {
    const agent = await lab.startAgent(index); // ends with the lab
    const network = await agent.plugin.createNetwork({ 'sand-name': 'bench' });
    const endpoint = await agent.plugin.attach(network);
    await moveIn(host, endpoint);
    last = endpoint.address.split('/')[0] ?? '';
  }
  return last;
}

/** What libnetwork does after Join. */
async function moveIn({ namespaces }: BenchHost, { ifName, address, mac }: Endpoint): Promise<void> {
  await namespaces.exec(['ip', 'netns', 'add', OURS]);
  await namespaces.exec(['ip', 'link', 'set', ifName, 'netns', OURS, 'name', 'sand0']);
  const settings = ['link set lo up', `link set sand0 address ${mac}`, `addr add ${address} dev sand0`];
  await batch(namespaces, OURS, [...settings, 'link set sand0 up']);
}

/** The same by hand: VNI and addresses of its own, MTU 1450, checksums as ours, no packet filter on the bridge. */
async function makeByHand(lab: BenchLab): Promise<string> {
  const addressOn = (index: number) => `10.90.0.${index + 2}`;
  const macOn = (index: number) => `02:90:00:00:00:0${index + 2}`;
  for (const [index, { namespaces, address }] of lab.hosts.entries()) {
    const other = 1 - index;
    const overlay = `${HAND_MADE}-overlay`;
    const vxlan = `vxlan0 mtu 1450 type vxlan id 4242 local ${address} dstport 4789 nolearning proxy udpcsum`;
    await namespaces.exec(['ip', 'netns', 'add', overlay]);
    await namespaces.exec(['ip', 'netns', 'add', HAND_MADE]);
    await namespaces.exec(['ip', 'link', 'add', ...vxlan.split(' ')]);
    await namespaces.exec(['ip', 'link', 'set', 'vxlan0', 'netns', overlay]);
    await batch(namespaces, overlay, [
      'link set lo up',
      'link add br0 mtu 1450 type bridge',
      `link add veth0 mtu 1450 type veth peer name sand0 address ${macOn(index)} mtu 1450 netns ${HAND_MADE}`,
      'link set vxlan0 master br0 up',
      'link set veth0 master br0 up',
      'link set br0 up',
      `neigh replace ${addressOn(other)} lladdr ${macOn(other)} dev vxlan0 nud permanent`,
    ]);
    const vtep = lab.host(other).address;
    const entry = [
      'bridge',
      'fdb',
      'replace',
      macOn(other),
      'dev',
      'vxlan0',
      'dst',
      vtep,
      'self',
      'permanent',
    ];
    await namespaces.exec(entry, { netns: `/run/netns/${overlay}` });
    for (const table of NF_CALLS) {
      const setting = `/proc/sys/net/bridge/bridge-nf-call-${table}`;
      await namespaces.run(['tee', setting], { netns: `/run/netns/${overlay}`, input: '0' });
    }
    await batch(namespaces, HAND_MADE, [
      'link set lo up',
      `addr add ${addressOn(index)}/24 dev sand0`,
      'link set sand0 up',
    ]);
  }
  return addressOn(1);
}

async function batch(namespaces: HostNamespaces, netns: string, lines: readonly string[]): Promise<void> {
  await namespaces.exec(['ip', '-n', netns, '-batch', '-'], { input: lines.join('\n') });
}

async function serve(namespaces: HostNamespaces, name: string): Promise<void> {
  const netns = `/run/netns/${name}`;
  namespaces.spawn(['iperf3', '--server'], { stdio: 'ignore', netns }).unref();
  const listening = async () => (await namespaces.exec(['ss', '-Hltn'], { netns })).includes(':5201');
  await until(listening, { timeoutMs: SERVER_READY_MS, what: `iperf3 listens in ${name}` });
}

async function gigabits(namespaces: HostNamespaces, name: string, target: string): Promise<number> {
  const argv = ['iperf3', '--client', target, '--time', String(SECONDS), '--omit', '1', '--json'];
  const answer = await namespaces.json<{
    readonly end: { readonly sum_received: { bits_per_second: number } };
  }>(argv, { netns: `/run/netns/${name}`, timeoutMs: 30_000 });
  return answer.end.sum_received.bits_per_second / 1e9;
}
