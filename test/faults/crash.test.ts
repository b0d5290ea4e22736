/** kill -9 after each step of each operation: every transaction, netlink batch, mount and line on disk. */
import { OPERATIONS, type Operation } from '../support/crash-operations.js';
import { dieAtEach, type Points } from '../support/crash-points.js';
import { CrashWorld } from '../support/crash-world.js';
import { startEtcd } from '../support/etcd.js';

const WORLDS = 4; // a restart waits more than it works
const WITHIN_MS = 600_000; // ends what hangs; some 100 s on a quiet machine

const points = new Map<Operation, Points | Error>();

/** One cluster, and operations from the common list as long as there are any. */
async function work(open: Operation[]): Promise<void> {
  for (let operation = open.shift(); operation; operation = open.shift()) {
    await using etcd = await startEtcd();
    await using world = await CrashWorld.open(etcd, '/crash');
    await world.start();
    points.set(operation, await dieAtEach(world, operation).catch((error: Error) => error));
  }
}

beforeAll(async () => {
  const open = [...OPERATIONS];
  await Promise.all(Array.from({ length: WORLDS }, () => work(open)));
}, WITHIN_MS);

it.each(OPERATIONS)('$name: nothing is lost, leaked or left, whichever step was the last', operation => {
  const found = points.get(operation);
  if (!found || found instanceof Error) throw found ?? new Error('It was not tried');
  expect(found.wrong).toEqual([]);
  expect(found.steps).not.toEqual([]);
});
