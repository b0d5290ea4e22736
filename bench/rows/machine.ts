/** What the two parts of every operation take on this machine, without pauses: by that budgets in milliseconds can be judged. */
import { openBareEndpoint } from '../bare.js';
import { openFloor } from '../floor.js';
import { BenchLab } from '../lab.js';
import { type Figure, numbersOf, type Row, rounds, timed, times, unjudged } from '../row.js';
import { WARM_UP } from '../warm.js';

const COUNT = 300;
const FLOOR_WARM_UP = 100;
/** Milliseconds, the middle of what design.md gives for the machine that its budgets were measured on. */
const OF_THE_BUDGETS = { transaction: 0.75, pair: 0.8 };

export const machineRow: Row = {
  name: 'machine',
  what: 'one transaction and one veth pair after the other without pauses, against the machine of the budgets',
  async run() {
    await using lab = await BenchLab.start(1);
    const bare = await openBareEndpoint(lab.store, 'netns');
    for (const _ of times(WARM_UP)) await bare.make();
    const transactions: number[] = [];
    for (const _ of times(rounds(COUNT))) transactions.push(await timed(bare.make));
    await using floor = await openFloor(lab.host(0));
    await floor.attached(rounds(FLOOR_WARM_UP));
    const pairs = await floor.attached(rounds(COUNT));
    return [
      figure('bare transaction of an endpoint', transactions, OF_THE_BUDGETS.transaction),
      figure(`veth pair, entry and address, ${floor.label}`, pairs, OF_THE_BUDGETS.pair),
    ];
  },
};

function figure(what: string, values: readonly number[], value: number): Figure {
  const floor = { what: 'on the machine of the budgets', value };
  return { what, unit: 'ms', ours: numbersOf(values), floor, ...unjudged };
}
