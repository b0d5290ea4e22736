/** Many callers of the API at once: one agent with 1, 8 and 64 of them, and 8 agents with 8 each. */
import { type KernelFloor, openFloor } from '../floor.js';
import { BenchLab } from '../lab.js';
import {
  type Figure,
  type Floor,
  isQuick,
  median,
  numbersOf,
  type Row,
  type Say,
  times,
  unjudged,
} from '../row.js';
import { describeCpu, type Pids, pidsOf, RUSH_RANGE, type Rushed, rush, rushClients } from '../rush.js';
import { networkWrites, seed } from '../seed.js';

const ROUNDS = isQuick ? 2 : 3;
/** Endpoints that each agent makes before anything is counted: V8 compiles what runs often while it runs. */
const WARM_UP = isQuick ? 1 : 768;
const FLOOR_WARM_UP = 20;
const NETWORKS = 100;
const PORTS_AT_LEAST = 40; // fewer say little

interface Plan {
  readonly agents: number;
  readonly clientsPerAgent: number;
  readonly endpointsPerClient: number;
  readonly networks: number;
  /** Of the budget; undefined: none. */
  readonly leastPerSecond?: number;
}

const ONE_AGENT: readonly Plan[] = [
  { agents: 1, clientsPerAgent: 1, endpointsPerClient: 60, networks: 1 },
  { agents: 1, clientsPerAgent: 8, endpointsPerClient: 30, networks: 1 },
  // 768: a bridge of the kernel takes 1,023 ports
  { agents: 1, clientsPerAgent: 64, endpointsPerClient: 12, networks: 1, leastPerSecond: 700 },
  { agents: 1, clientsPerAgent: 64, endpointsPerClient: 12, networks: NETWORKS },
];
const EIGHT_AGENTS: Plan = {
  ...{ agents: 8, clientsPerAgent: 8, endpointsPerClient: 12, networks: 1 },
  leastPerSecond: 520,
};

export const clientsRow: Row = {
  name: 'clients',
  what: `1, 8 and 64 callers of one agent at once; 64 also on ${NETWORKS} networks; ${ROUNDS} rounds of each, after ${WARM_UP} endpoints of each agent`,
  run: say => measure(ONE_AGENT, say),
};

export const agentsRow: Row = {
  name: 'agents',
  what: `8 agents with 8 callers each on one network; ${ROUNDS} rounds, after ${WARM_UP} endpoints of each agent`,
  run: say => measure([EIGHT_AGENTS], say),
};

async function measure(plans: readonly Plan[], say: Say): Promise<Figure[]> {
  const count = Math.max(...plans.map(({ agents }) => agents));
  await using lab = await BenchLab.start(count);
  const networks = times(NETWORKS).map(n =>
    networkWrites({ name: `rush-${n}`, vni: 7 + n, range: RUSH_RANGE }),
  );
  await seed(
    lab.store,
    networks.flatMap(({ writes }) => writes),
  );
  const agents = await lab.startAgents(0, count);
  const ids = networks.map(({ id }) => id);
  const results: { readonly plan: Plan; readonly measured: Measured }[] = [];
  for (const plan of plans) {
    const pids = pidsOf(lab, agents);
    results.push({ plan, measured: await measurePlan(plan, { lab, agents, ids, pids, say }) });
  }
  for (const agent of agents) await agent[Symbol.asyncDispose]();
  await using floor = await openFloor(lab.host(0));
  const figures: Figure[] = [];
  for (const { plan, measured } of results) {
    figures.push(...figuresOf(plan, measured, await kernelRate(floor, plan)));
  }
  return figures;
}

interface Scene {
  readonly lab: BenchLab;
  readonly agents: Awaited<ReturnType<BenchLab['startAgents']>>;
  readonly ids: readonly string[];
  readonly pids: Pids;
  readonly say: Say;
}

interface Measured {
  /** Of warming up. */
  readonly first: Rushed;
  readonly rounds: readonly Rushed[];
}

async function measurePlan(plan: Plan, { agents, ids, pids, say }: Scene): Promise<Measured> {
  const { clientsPerAgent, endpointsPerClient } = plan;
  const networks = ids.slice(0, plan.networks);
  await using clients = await rushClients(agents, { networks, perAgent: clientsPerAgent });
  const warmUp = Math.ceil(WARM_UP / (clientsPerAgent * endpointsPerClient));
  const done: Rushed[] = [];
  for (const _ of times(warmUp + ROUNDS)) {
    const round = await rush(clients.list, endpointsPerClient, pids);
    say(
      `${nameOf(plan)}: ${round.perSecond.toFixed(0)}/s made, ${round.removedPerSecond.toFixed(0)}/s removed`,
    );
    done.push(round);
  }
  const [first] = done;
  if (!first) throw new Error('Nothing was measured');
  return { first, rounds: done.slice(warmUp) };
}

/** Veth pairs a second that one thread gets out of the kernel, in a bridge that grows to as many ports. */
async function kernelRate(floor: KernelFloor, plan: Plan): Promise<Floor> {
  const { clientsPerAgent, endpointsPerClient, networks } = plan;
  const ports = Math.ceil((clientsPerAgent * endpointsPerClient) / networks);
  await floor.attached(FLOOR_WARM_UP);
  const durations = await floor.attached(Math.max(ports, PORTS_AT_LEAST));
  const totalMs = durations.reduce((sum, each) => sum + each, 0);
  return { what: `${floor.label}, kernel work alone`, value: (durations.length / totalMs) * 1000 };
}

function nameOf({ agents, clientsPerAgent, networks }: Plan): string {
  const clients = `${agents === 1 ? '' : `${agents} agents × `}${clientsPerAgent} client${clientsPerAgent === 1 ? '' : 's'}`;
  return networks === 1 ? clients : `${clients}, ${networks} networks`;
}

function figuresOf(plan: Plan, { first, rounds }: Measured, floor: Floor): Figure[] {
  const name = nameOf(plan);
  const rate = median(rounds.map(({ perSecond }) => perSecond));
  const removedRate = median(rounds.map(({ removedPerSecond }) => removedPerSecond));
  const latency = { ...numbersOf(rounds.flatMap(({ created }) => created)), perSecond: rate };
  const removal = { ...numbersOf(rounds.flatMap(({ removed }) => removed)), perSecond: removedRate };
  const failures = rounds.flatMap(round => round.failures);
  const wrong = failures.length + rounds.reduce((sum, round) => sum + round.duplicates, 0);
  const { leastPerSecond } = plan;
  const p99 = latency.p99 ?? Number.POSITIVE_INFINITY;
  const judged = leastPerSecond === undefined ? unjudged : { budget: 'p99 ≤ 250 ms', met: p99 <= 250 };
  return [
    { what: `create + activate, ${name}`, unit: 'ms', ours: latency, ...judged },
    {
      what: `made in a second, ${name}`,
      unit: '/s',
      ours: { p50: rate, count: rounds.length },
      floor,
      note: `${name}: ${first.perSecond.toFixed(0)}/s in the first round; ${describeCpu(rounds)}`,
      ...(leastPerSecond === undefined
        ? unjudged
        : { budget: `≥ ${leastPerSecond}/s`, met: rate >= leastPerSecond }),
    },
    { what: `delete, ${name}`, unit: 'ms', ours: removal, ...unjudged },
    {
      what: `failures + duplicate addresses, ${name}`,
      unit: '',
      ours: { p50: wrong, count: 1 },
      budget: 'none',
      met: wrong === 0,
      ...(failures[0] ? { note: `${failures.length} failures, such as: ${failures[0]}` } : {}),
    },
  ];
}
