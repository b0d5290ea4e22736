/** Making networks over the API in clusters of three sizes: one caller, and eight agents that race for VNIs. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ApiClient } from '../api-client.js';
import { bareNetwork } from '../bare.js';
import { BenchLab } from '../lab.js';
import { type Figure, median, numbersOf, type Row, rounds, timed, times, unjudged } from '../row.js';
import { seedNetworks } from '../seed.js';
import { byFresh, FRESH, PAUSE_MS, WARM_UP } from '../warm.js';

const COUNT = 150;
const IN_TURN = 10;
const COUNT_RESTED = 50;
const IN_CLUSTER = [0, 1_000, 10_000];
const FIRST_VNI = 1_000;
const BUDGET_MS = 2;
const FLAT = 1.2;
const AGENTS = 8;
const RACE_EACH = 25; // by every agent
const RACES = 4; // the first is for warming up

interface Samples {
  readonly networks: number;
  readonly ours: readonly number[];
  readonly removed: readonly number[];
  readonly bare: readonly number[];
  readonly bareRemoved: readonly number[];
}

export const networksRow: Row = {
  name: 'networks',
  what: `network create over the API without pauses, ${COUNT} times after ${WARM_UP}, with ${IN_CLUSTER.join(', ')} networks in the cluster`,
  async run(say) {
    await using lab = await BenchLab.start(1);
    await using agent = await lab.startAgent();
    const api = agent.api();
    const fresh = await measure(lab, api, { networks: 0, count: FRESH });
    await measure(lab, api, { networks: 0, count: WARM_UP });
    const afterRest = await measure(lab, api, { networks: 0, count: rounds(COUNT_RESTED), restMs: PAUSE_MS });
    const all: Samples[] = [];
    await eachSize(lab, async networks => {
      say(`${networks} networks`);
      await api.deleteNetwork(await api.createNetwork({ name: 'caught-up' }));
      all.push(await measure(lab, api, { networks, count: rounds(COUNT) }));
    });
    api.close();
    const [first, ...rest] = all.flatMap(figuresOf);
    if (!first) throw new Error('Nothing was measured');
    return [
      { ...first, note: byFresh('network create', fresh.ours) },
      ...rest,
      afterRestFigure(afterRest),
      ...all.slice(1).map(each => flatness(all[0] ?? each, each)),
    ];
  },
};

export const vniRow: Row = {
  name: 'vni',
  what: `${AGENTS} agents race to make ${RACE_EACH} networks each, with ${IN_CLUSTER.join(', ')} networks in the cluster`,
  async run(say) {
    await using lab = await BenchLab.start(AGENTS);
    const agents = await lab.startAgents(0, AGENTS);
    const callers = agents.map(agent => agent.api());
    const figures: Figure[] = [];
    await eachSize(lab, async networks => {
      const races: Race[] = [];
      for (const _ of times(rounds(RACES))) races.push(await race(callers));
      const bare = await rateOf(callers.map(() => () => bareNetwork(lab.store)));
      say(`${networks} networks: ${median(races.map(each => each.perSecond)).toFixed(0)}/s`);
      figures.push(...raceFigures(networks, races.slice(1), bare));
    });
    for (const each of callers) each.close();
    return figures;
  },
};

async function eachSize(lab: BenchLab, work: (networks: number) => Promise<void>): Promise<void> {
  let seeded = 0;
  for (const networks of IN_CLUSTER) {
    await seedNetworks(lab.store, networks - seeded, FIRST_VNI + seeded);
    seeded = networks;
    await work(networks);
  }
}

let measured = 0;

interface Plan {
  readonly networks: number;
  readonly count: number;
  /** Before each call. */
  readonly restMs?: number;
}

/** Ours and bare in turn, some of each: so each finds the processors as it left them itself. */
async function measure({ store }: BenchLab, api: ApiClient, plan: Plan): Promise<Samples> {
  const { networks, count, restMs = 0 } = plan;
  const noSamples = (): number[] => [];
  const samples = { ours: noSamples(), removed: noSamples(), bare: noSamples(), bareRemoved: noSamples() };
  const sample = async <T>(into: number[], work: () => Promise<T>): Promise<T> => {
    if (restMs > 0) await sleep(restMs);
    const startedAt = performance.now();
    const answer = await work();
    into.push(performance.now() - startedAt);
    return answer;
  };
  for (let done = 0; done < count; done += IN_TURN) {
    const turn = times(Math.min(IN_TURN, count - done));
    for (const _ of turn) {
      const name = `bench-${measured++}`;
      const id = await sample(samples.ours, () => api.createNetwork({ name }));
      await sample(samples.removed, () => api.deleteNetwork(id));
    }
    for (const _ of turn) {
      const remove = await sample(samples.bare, () => bareNetwork(store));
      await sample(samples.bareRemoved, remove);
    }
  }
  return { networks, ...samples };
}

function figuresOf({ networks, ours, bare, removed, bareRemoved }: Samples): Figure[] {
  const numbers = numbersOf(ours);
  return [
    {
      what: `network create, ${networks} networks`,
      unit: 'ms',
      ours: numbers,
      floor: { what: 'bare transaction', value: median(bare) },
      budget: `p50 ≤ ${BUDGET_MS} ms`,
      met: numbers.p50 <= BUDGET_MS,
    },
    {
      what: `network delete, ${networks} networks`,
      unit: 'ms',
      ours: numbersOf(removed),
      floor: { what: 'bare transaction', value: median(bareRemoved) },
      ...unjudged,
    },
  ];
}

function afterRestFigure({ ours, bare }: Samples): Figure {
  return {
    what: `network create after ${PAUSE_MS} ms of rest`,
    unit: 'ms',
    ours: numbersOf(ours),
    floor: { what: 'bare transaction after as long', value: median(bare) },
    ...unjudged,
  };
}

function flatness(empty: Samples, full: Samples): Figure {
  const ratio = median(full.ours) / median(empty.ours);
  const floorRatio = median(full.bare) / median(empty.bare);
  return {
    what: `create, ${full.networks} networks against none`,
    unit: '',
    ours: { p50: ratio, count: 1 },
    floor: { what: 'the bare transactions', value: floorRatio },
    budget: `flat: ≤ ${FLAT}`,
    met: ratio <= FLAT * Math.max(floorRatio, 1),
  };
}

interface Race {
  readonly latencies: readonly number[];
  readonly perSecond: number;
  /** Failures, and VNIs that two networks have. */
  readonly wrong: number;
}

let racing = 0;

async function race(callers: readonly ApiClient[]): Promise<Race> {
  const made: { readonly api: ApiClient; readonly id: string; readonly vni: number }[] = [];
  let failures = 0;
  const turn = racing++;
  const { latencies, perSecond } = await rateOf(
    callers.map((api, caller) => {
      let count = 0;
      return async () => {
        const name = `race-${turn}-${caller}-${count++}`;
        try {
          made.push({ api, ...(await api.createNetworkWithVni({ name })) });
        } catch {
          failures += 1;
        }
      };
    }),
  );
  const twice = made.length - new Set(made.map(({ vni }) => vni)).size;
  await Promise.all(
    callers.map(async api => {
      for (const each of made) if (each.api === api) await api.deleteNetwork(each.id);
    }),
  );
  return { latencies, perSecond, wrong: failures + twice };
}

/** Each worker does its step RACE_EACH times, all workers at once. */
async function rateOf(steps: readonly (() => Promise<unknown>)[]) {
  const latencies: number[] = [];
  const totalMs = await timed(() =>
    Promise.all(
      steps.map(async step => {
        for (const _ of times(RACE_EACH)) latencies.push(await timed(step));
      }),
    ),
  );
  return { latencies, perSecond: latencies.length / (totalMs / 1000) };
}

function raceFigures(
  networks: number,
  races: readonly Race[],
  bare: { readonly perSecond: number },
): Figure[] {
  const perSecond = median(races.map(each => each.perSecond));
  const wrong = races.reduce((sum, each) => sum + each.wrong, 0);
  const name = `${AGENTS} agents race, ${networks} networks`;
  const ours = numbersOf(races.flatMap(({ latencies }) => latencies));
  return [
    { what: `network create, ${name}`, unit: 'ms', ours: { ...ours, perSecond }, ...unjudged },
    {
      what: `made in a second, ${name}`,
      unit: '/s',
      ours: { p50: perSecond, count: races.length },
      floor: { what: `bare transactions of ${AGENTS} callers`, value: bare.perSecond },
      ...unjudged,
    },
    {
      what: `failures + VNIs given twice, ${name}`,
      unit: '',
      ours: { p50: wrong, count: 1 },
      budget: 'none',
      met: wrong === 0,
    },
  ];
}
