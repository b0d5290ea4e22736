/** Lets an agent die at every step of an operation, one run each, and asks what is wrong afterwards. */
import type { Operation } from './crash-operations.js';
import type { CrashWorld } from './crash-world.js';
import { untilSound } from './invariants.js';
import { until } from './until.js';

/** How long an address may stand reserved that nobody comes back for. */
const RESERVED_MS = 60_000;

export interface Points {
  /** What the steps were, in order. */
  readonly steps: readonly string[];
  /** What was wrong after which step. */
  readonly wrong: readonly string[];
}

/** Dies after the first step, then after the second … until a run has fewer. Goes on past what is wrong. */
export async function dieAtEach(world: CrashWorld, operation: Operation): Promise<Points> {
  const wrong: string[] = [];
  for (let step = 1; ; step++) {
    const { steps, died } = await dieAt(world, operation, step).catch(error => {
      wrong.push(`${operation.name}, after step ${step}: ${(error as Error).message}`);
      return { steps: [], died: true };
    });
    if (!died || wrong.length > 0) return { steps, wrong };
  }
}

async function dieAt(world: CrashWorld, operation: Operation, step: number) {
  const prepared = await operation.prepare(world);
  await world.untilSound(`${operation.name} is prepared`);
  await prepared.damage?.();
  await world.arm(step);
  await prepared.run();
  await world.settledOrDead();
  const steps = await world.disarm();
  const died = steps.length >= step;
  await world.revived();
  const at = `${operation.name}: dead after "${steps[step - 1] ?? 'all'}", started again`;
  await world.untilSound(at);
  if (await world.age()) {
    await world.untilSound(`${at}, and an hour later`, RESERVED_MS);
  }
  await prepared.clear();
  await world.expirePromises();
  await untilSound({ ...world.cluster, reservationMs: 0 }, { what: `${at}, and cleared` });
  const { etcd, prefix } = world.cluster;
  const keys = async () =>
    (await etcd.keys(prefix)).filter(key => !/\/network\.(hosts|presence)\//.test(key));
  await until(async () => (await keys()).length === 0, { what: 'no key is left' }).catch(async () => {
    throw new Error(`${at}, and cleared: these keys are left: ${(await keys()).join(', ')}`);
  });
  return { steps, died };
}
