/**
 * Random schedules, with shrinking: 50 here, always the same; in the soak 1,000 others. SEED and PLACE repeat one that failed, as printed.
 */
import fc from 'fast-check';
import { CrashWorld } from '../support/crash-world.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { type Move, Schedule, schedules } from '../support/schedule.js';

const { SEEDS = '50', SEED = '20261', PLACE } = process.env;
const WITHIN_MS = Number(SEEDS) * 20_000; // a failure is shrunk, too

let etcd: EtcdCluster;
let world: CrashWorld | undefined;
let worlds = 0;

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(async () => {
  await world?.[Symbol.asyncDispose]();
  await etcd.stop();
});

/** One after the other in the same world, which is clean after each; after a failure in another one. */
async function holds(moves: readonly Move[]): Promise<void> {
  if (!world) {
    world = await CrashWorld.open(etcd, `/schedules-${++worlds}`);
    await world.start();
  }
  try {
    const schedule = await Schedule.begin(world);
    await schedule.carryOut(moves);
  } catch (error) {
    await world[Symbol.asyncDispose]();
    world = undefined;
    throw error;
  }
}

it(
  'whatever two hosts do at once, killed and cut off at random: kernel = truth, no address twice, nothing left',
  async () => {
    await fc.assert(fc.asyncProperty(schedules, holds), {
      numRuns: Number(SEEDS),
      seed: Number(SEED),
      ...(PLACE ? { path: PLACE } : {}),
    });
  },
  WITHIN_MS,
);
