/** How soon an agent is there: with nothing to do, and with a thousand endpoints whose traffic goes on meanwhile. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { NetworkId } from '../../model/scalars.js';
import { someAtOnce } from '../../model/some-at-once.js';
import { SteadyPing } from '../../test/support/steady-ping.js';
import type { ApiClient } from '../api-client.js';
import { cpuBetween, cpuTimeOfAll } from '../cpu.js';
import { FdbListener, monotonicMs } from '../fdb-listener.js';
import { compile } from '../floor.js';
import { AT_ONCE, type BenchAgent, BenchLab, makeTargets } from '../lab.js';
import {
  type Figure,
  isQuick,
  numbersOf,
  type Row,
  rounds,
  type Say,
  single,
  times,
  unjudged,
} from '../row.js';
import { addressesOf, endpointRecord, endpointWrites, networkWrites, seed } from '../seed.js';

const STARTS = 12;
const RESTARTS = 6;
const NETWORKS = 100;
const PER_NETWORK = 10;
const ENDPOINTS = NETWORKS * PER_NETWORK;
const CALLERS = 8;
const SETTLE_MS = 3_000;
const IDLE_MS = isQuick ? 15_000 : 60_000; // a full compare comes every 28 s
const PING_EVERY_SECONDS = '0.01';

export const startRow: Row = {
  name: 'start',
  what: `${STARTS} starts of an agent until Plugin.Activate answers`,
  async run() {
    await using lab = await BenchLab.start(1);
    const starts: number[] = [];
    for (const _ of times(rounds(STARTS))) {
      await using agent = await lab.startAgent();
      starts.push(agent.startMs);
    }
    const ours = numbersOf(starts);
    const met = Math.max(...starts) <= 400;
    return [{ what: 'plugin socket answers after start', unit: 'ms', ours, budget: '≤ 400 ms', met }];
  },
};

export const restartRow: Row = {
  name: 'restart',
  what: `${RESTARTS} restarts with ${ENDPOINTS} local endpoints on ${NETWORKS} networks, pings going on; then idle for ${IDLE_MS / 1000} s`,
  async run(say) {
    await using lab = await BenchLab.start(2);
    const networks = times(NETWORKS).map(n => {
      const range = `10.${100 + n}.0.0/24`;
      return { range, ...networkWrites({ name: `full-${n}`, vni: 100 + n, range }) };
    });
    await seed(
      lab.store,
      networks.flatMap(({ writes }) => writes),
    );
    const agents = await lab.startAgents(0, 2);
    const pingTargets = await makeEndpoints(
      lab,
      agents,
      networks.map(({ id }) => id),
    );
    say(`${ENDPOINTS} endpoints are made`);
    const pings: SteadyPing[] = [];
    for (const address of pingTargets) {
      pings.push(await SteadyPing.within(lab.host(0).namespaces, TARGET, address, PING_EVERY_SECONDS));
    }
    const starts = await restarts(lab, agents, { networks, say });
    const lost: number[] = [];
    for (const ping of pings) lost.push((await ping.lost()).length);
    const [agent] = agents;
    const cpuMs = agent ? await idleCpuMs(agent, say) : Number.NaN;
    return figures(
      starts,
      lost.reduce((sum, each) => sum + each, 0),
      cpuMs,
    );
  },
};

const TARGET = '/run/netns/target-0';

/** On the first host; one on the second. Answers what is to be pinged from TARGET: across hosts, and on the host. */
async function makeEndpoints(lab: BenchLab, agents: readonly BenchAgent[], ids: readonly NetworkId[]) {
  const targets = await makeTargets(lab.host(0), PER_NETWORK);
  const [elsewhere = ''] = await makeTargets(lab.host(1), 1);
  const [here, there] = agents.map(agent => agent.api());
  if (!here || !there) throw new Error('Two agents are needed');
  const remote = await there.attach(ids[0] ?? '', elsewhere);
  const wishes = ids.flatMap((id, network) => targets.map(netns => ({ id, netns, network })));
  const addresses = new Map<string, string>();
  const worker = async (api: ApiClient) => {
    for (let next = wishes.shift(); next; next = wishes.shift()) {
      addresses.set(`${next.network} ${next.netns}`, (await api.attach(next.id, next.netns)).address);
    }
  };
  const callers = times(CALLERS).map(() => agents[0]?.api());
  await Promise.all(callers.flatMap(api => (api ? [worker(api)] : [])));
  for (const api of [here, there, ...callers]) api?.close();
  const neighbour = addresses.get(`1 ${targets[1]}`) ?? '';
  return [remote.address, neighbour].map(address => address.split('/')[0] ?? '');
}

interface Full {
  readonly networks: readonly { readonly id: NetworkId; readonly range: string }[];
  readonly say: Say;
}

interface Starts {
  readonly answered: number[];
  readonly compared: number[];
}

/** While the agent is away every network gets an endpoint elsewhere: the last entry says when the start's work is done. */
async function restarts(lab: BenchLab, agents: BenchAgent[], { networks, say }: Full): Promise<Starts> {
  const program = await compile('fdb-monitor', lab.root);
  const listeners = await someAtOnce(networks, AT_ONCE, ({ id }) =>
    FdbListener.open(lab.host(0), `/run/netns/sc-ns-${id}`, program),
  );
  const starts: Starts = { answered: [], compared: [] };
  for (const round of times(rounds(RESTARTS))) {
    await agents[0]?.[Symbol.asyncDispose]();
    const records = networks.map(({ id, range }) => {
      const address = addressesOf(range, 200 + round).at(-1);
      if (!address) throw new Error(`${range} is too small`);
      return endpointRecord({
        networkId: id,
        address,
        prefixLength: 24,
        hostname: 'elsewhere',
        vtep: '10.79.0.199',
      });
    });
    await seed(lab.store, records.flatMap(endpointWrites));
    const startedAt = monotonicMs();
    const agent = await lab.startAgent(0, { awaited: 'plugin socket' });
    agents[0] = agent;
    const added = listeners.map((listener, n) => listener.added(records[n]?.target_veth_mac ?? ''));
    const last = Math.max(...(await Promise.all(added)));
    starts.answered.push(agent.startMs);
    starts.compared.push(last - startedAt);
    say(`answers after ${agent.startMs.toFixed(0)} ms, done after ${(last - startedAt).toFixed(0)} ms`);
    await sleep(SETTLE_MS);
  }
  for (const listener of listeners) listener[Symbol.dispose]();
  return starts;
}

async function idleCpuMs({ pid }: BenchAgent, say: Say): Promise<number> {
  await sleep(SETTLE_MS);
  say(`nothing is done for ${IDLE_MS / 1000} s`);
  const before = await cpuTimeOfAll([pid]);
  await sleep(IDLE_MS);
  const { userMs, systemMs } = cpuBetween(before, await cpuTimeOfAll([pid]));
  return ((userMs + systemMs) / IDLE_MS) * 60_000;
}

function figures({ answered, compared }: Starts, lost: number, cpuMs: number): Figure[] {
  const done = numbersOf(compared);
  const count = `${ENDPOINTS} endpoints`;
  return [
    {
      what: `start until the kernel is as it should be, ${count}`,
      unit: 'ms',
      ours: done,
      budget: 'p50 < 1000 ms',
      met: done.p50 < 1_000,
      note: `from the start of the process to the last entry of what was changed in ${NETWORKS} networks meanwhile`,
    },
    {
      what: `plugin socket answers after start, ${count}`,
      unit: 'ms',
      ours: numbersOf(answered),
      ...unjudged,
    },
    {
      what: `packets lost while the agent was away and started`,
      unit: '',
      ours: single(lost),
      budget: 'none',
      met: lost === 0,
    },
    {
      what: `processor time in a minute of an unchanged host, ${count}`,
      unit: 'ms',
      ours: single(cpuMs),
      ...unjudged,
    },
  ];
}
