/** Long work on the thread that answers everybody: the items of a list, and now and then a turn for the others. */
import { setImmediate as othersTurn } from 'node:timers/promises';

/** Chosen: a few milliseconds of whatever is done here with one item. */
const AT_ONCE = 100;

export async function* unhurried<T>(items: Iterable<T>): AsyncGenerator<T> {
  let done = 0;
  for (const item of items) {
    yield item;
    done += 1;
    if (done % AT_ONCE === 0) await othersTurn();
  }
}
