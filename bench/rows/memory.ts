/** What an agent weighs: alone, with networks, and with endpoints of other hosts. */
import { setTimeout as sleep } from 'node:timers/promises';
import { BenchLab } from '../lab.js';
import { type Figure, type Row, single, times } from '../row.js';
import { populate, seedNetworks } from '../seed.js';

const SETTLE_MS = 4_000;
const PER_NETWORK = 1_000;
const RANGE = '10.24.0.0/20';
const FEW_NETWORKS = 1_000;
const KNOWN = [10_000, 100_000];

interface Step {
  readonly what: string;
  readonly budgetMb?: number;
  /** Adds to what the steps before have written. */
  prepare(lab: BenchLab): Promise<unknown>;
}

const STEPS: readonly Step[] = [
  { what: 'idle', budgetMb: 130, prepare: async () => undefined },
  { what: `${KNOWN[0]} endpoints known`, budgetMb: 170, prepare: lab => populateTo(lab, 0, KNOWN[0] ?? 0) },
  {
    what: `${KNOWN[0]} endpoints and ${FEW_NETWORKS} more networks`,
    prepare: lab => seedNetworks(lab.store, FEW_NETWORKS, 10_000),
  },
  {
    what: `${KNOWN[1]} endpoints and ${FEW_NETWORKS} more networks`,
    prepare: lab => populateTo(lab, KNOWN[0] ?? 0, KNOWN[1] ?? 0),
  },
];

export const memoryRow: Row = {
  name: 'memory',
  what: `resident memory of a fresh agent: idle, with ${FEW_NETWORKS} networks, with ${KNOWN.join(' and ')} known endpoints`,
  async run(say) {
    const figures: Figure[] = [];
    const only = await weighed({
      what: `${FEW_NETWORKS} networks`,
      prepare: lab => seedNetworks(lab.store, FEW_NETWORKS, 10_000),
    });
    await using lab = await BenchLab.start(1);
    for (const step of STEPS) {
      say(step.what);
      figures.push(await weigh(lab, step));
      if (figures.length === 1) figures.push(only);
    }
    return figures;
  },
};

async function weighed(step: Step): Promise<Figure> {
  await using lab = await BenchLab.start(1);
  return await weigh(lab, step);
}

async function weigh(lab: BenchLab, { what, budgetMb, prepare }: Step): Promise<Figure> {
  await prepare(lab);
  const resident = await residentAfterStart(lab);
  return {
    what: `resident memory, ${what}`,
    unit: 'MB',
    ours: single(resident),
    ...(budgetMb === undefined
      ? { budget: '', met: undefined }
      : { budget: `≤ ${budgetMb} MB`, met: resident <= budgetMb }),
  };
}

async function residentAfterStart(lab: BenchLab): Promise<number> {
  await using agent = await lab.startAgent();
  // A network and an endpoint of its own: everything that is loaded late has been loaded
  const network = await agent.plugin.createNetwork({ 'sand-name': 'weighed' });
  const endpoint = await agent.plugin.attach(network);
  await agent.plugin.leave(network, endpoint);
  await agent.plugin.deleteEndpoint(network, endpoint);
  await agent.plugin.deleteNetwork(network);
  await sleep(SETTLE_MS);
  return await agent.residentMb();
}

/** Networks of PER_NETWORK endpoints each, until there are `to` endpoints. */
async function populateTo({ store }: BenchLab, from: number, to: number): Promise<void> {
  const [first, last] = [from / PER_NETWORK, to / PER_NETWORK];
  for (const index of times(last - first).map(each => first + each)) {
    await populate(store, { name: `large-${index}`, vni: 100 + index, range: RANGE, endpoints: PER_NETWORK });
  }
}
