/**
 * Callers of the API without pauses: one agent with 1, 8 and 64 of them, and 8 agents with 8 each. So the original was
 * measured; the row `endpoint` has one caller after a rest of everybody.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { BARE_REMOVAL, openBareEndpoint } from '../bare.js';
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
  timed,
  times,
  unjudged,
} from '../row.js';
import { describeCpu, type Pids, pidsOf, RUSH_RANGE, type Rushed, rush, rushClients } from '../rush.js';
import { networkWrites, seed } from '../seed.js';
import { REMOVED_MS, WARM_UP } from '../warm.js';

const ROUNDS = isQuick ? 2 : 3;
const FLOOR_WARM_UP = 20;
const NETWORKS = 100;
const PORTS_AT_LEAST = 40; // fewer say little
const BARE = 180; // as often as ours alone

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
  await using floor = await openFloor(lab.host(0));
  const results: { readonly plan: Plan; readonly measured: Measured; readonly floors?: Floors }[] = [];
  for (const plan of plans) {
    const pids = pidsOf(lab, agents);
    const measured = await measurePlan(plan, { lab, agents, ids, pids, say });
    // At once where it is judged: what is a minute apart differs on a machine that others use, too.
    results.push({ plan, measured, ...(isAlone(plan) ? { floors: await floorsOf(plan, lab, floor) } : {}) });
  }
  for (const agent of agents) await agent[Symbol.asyncDispose]();
  const figures: Figure[] = [];
  for (const { plan, measured, floors } of results) {
    figures.push(...figuresOf(plan, measured, floors ?? (await floorsOf(plan, lab, floor))));
  }
  return figures;
}

interface Floors {
  readonly kernel: KernelWork;
  readonly verdicts: Verdicts;
}

async function floorsOf(plan: Plan, lab: BenchLab, floor: KernelFloor): Promise<Floors> {
  await sleep(REMOVED_MS);
  const kernel = await kernelFloor(floor, plan);
  return { kernel, verdicts: isAlone(plan) ? onOne(await bareFloor(lab), kernel) : onMany(plan) };
}

const isAlone = ({ agents, clientsPerAgent }: Plan) => agents * clientsPerAgent === 1;

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

interface KernelWork {
  readonly label: string;
  readonly judges: boolean;
  readonly rate: Floor;
  /** Milliseconds, one pair. */
  readonly each: number;
}

/** Veth pairs that one thread gets out of the kernel, in a bridge that grows to as many ports. */
async function kernelFloor(floor: KernelFloor, plan: Plan): Promise<KernelWork> {
  const { clientsPerAgent, endpointsPerClient, networks } = plan;
  const ports = Math.ceil((clientsPerAgent * endpointsPerClient) / networks);
  await floor.attached(FLOOR_WARM_UP);
  const durations = await floor.attached(Math.max(ports, PORTS_AT_LEAST));
  const totalMs = durations.reduce((sum, each) => sum + each, 0);
  const rate = {
    what: `${floor.label}, kernel work alone`,
    value: (durations.length / totalMs) * 1000,
  };
  return { label: floor.label, judges: floor.judges, rate, each: median(durations) };
}

/** Milliseconds of bare transactions, one after the other. */
async function bareFloor(lab: BenchLab) {
  const bare = await openBareEndpoint(lab.store, 'netns');
  const [made, removed]: [number[], number[]] = [[], []];
  for (const index of times(WARM_UP + BARE)) {
    const [make, remove] = [await timed(() => bare.make()), await timed(() => bare.remove())];
    if (index < WARM_UP) continue;
    made.push(make);
    removed.push(remove);
  }
  return { made: median(made), removed: median(removed) };
}

type Verdict = Pick<Figure, 'floor' | 'budget' | 'met'>;

/** Of creations and of removals, by their medians in milliseconds. */
interface Verdicts {
  create(p50: number, p99: number): Verdict;
  remove(p50: number): Verdict;
}

const onMany = ({ leastPerSecond }: Plan): Verdicts => ({
  create: (_, p99) => (leastPerSecond === undefined ? unjudged : { budget: 'p99 ≤ 250 ms', met: p99 <= 250 }),
  remove: () => unjudged,
});

/** What a lone caller is promised. */
function onOne(etcd: { readonly made: number; readonly removed: number }, kernel: KernelWork): Verdicts {
  const { label, judges, each } = kernel;
  const value = etcd.made + each;
  return {
    create: p50 => ({
      floor: { what: `etcd ${etcd.made.toFixed(2)} + ${label} ${each.toFixed(2)}`, value },
      budget: 'p50 ≤ 2 × floor',
      met: judges ? p50 <= 2 * value : undefined,
    }),
    remove: p50 => ({
      floor: { what: BARE_REMOVAL, value: etcd.removed },
      budget: 'p50 ≤ 3 ms',
      met: p50 <= 3,
    }),
  };
}

function nameOf({ agents, clientsPerAgent, networks }: Plan): string {
  const clients = `${agents === 1 ? '' : `${agents} agents × `}${clientsPerAgent} client${clientsPerAgent === 1 ? '' : 's'}`;
  return networks === 1 ? clients : `${clients}, ${networks} networks`;
}

function figuresOf(plan: Plan, { first, rounds }: Measured, { kernel, verdicts }: Floors): Figure[] {
  const name = nameOf(plan);
  const rate = median(rounds.map(({ perSecond }) => perSecond));
  const removedRate = median(rounds.map(({ removedPerSecond }) => removedPerSecond));
  const latency = { ...numbersOf(rounds.flatMap(({ created }) => created)), perSecond: rate };
  const removal = { ...numbersOf(rounds.flatMap(({ removed }) => removed)), perSecond: removedRate };
  const failures = rounds.flatMap(round => round.failures);
  const wrong = failures.length + rounds.reduce((sum, round) => sum + round.duplicates, 0);
  const { leastPerSecond } = plan;
  const created = verdicts.create(latency.p50, latency.p99 ?? Number.POSITIVE_INFINITY);
  return [
    { what: `create + activate, ${name}`, unit: 'ms', ours: latency, ...created },
    {
      what: `made in a second, ${name}`,
      unit: '/s',
      ours: { p50: rate, count: rounds.length },
      floor: kernel.rate,
      note: `${name}: ${first.perSecond.toFixed(0)}/s in the first round; ${describeCpu(rounds)}`,
      ...(leastPerSecond === undefined
        ? unjudged
        : { budget: `≥ ${leastPerSecond}/s`, met: rate >= leastPerSecond }),
    },
    { what: `delete, ${name}`, unit: 'ms', ours: removal, ...verdicts.remove(removal.p50) },
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
