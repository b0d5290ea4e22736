/** Long work on the thread that answers everybody: item by item, and now and then a turn for the others. */
import { setImmediate as othersTurn } from 'node:timers/promises';

/** Chosen: a few milliseconds of whatever is done here with one item. */
const AT_ONCE = 100;

export async function unhurried<T>(items: Iterable<T>, work: (item: T) => unknown): Promise<void> {
  let done = 0;
  for (const item of items) {
    const pending = work(item);
    if (pending instanceof Promise) await pending;
    done += 1;
    if (done % AT_ONCE === 0) await othersTurn();
  }
}
