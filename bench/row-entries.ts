/** The first endpoint of a large network: all remote endpoints at once, against the same messages sent from C. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { LineChild } from './child.js';
import { openFloor } from './floor.js';
import { BenchLab } from './lab.js';
import { median, numbersOf, type Row, times } from './row.js';

const PEERS = 10_000;
const ROUNDS = 12;
const PAUSE_MS = 300; // the kernel clears the last round's namespaces away meanwhile
const CHILD = fileURLToPath(new URL('./kernel-child.js', import.meta.url));

export const entriesRow: Row = {
  name: 'entries',
  what: `a network with ${PEERS} remote endpoints (two entries each) on a host that has none yet, ${ROUNDS} times`,
  async run() {
    await using lab = await BenchLab.start(1);
    const host = lab.host(0);
    await using floor = await openFloor(host);
    const argv = [process.execPath, CHILD, host.address];
    await using kernel = new LineChild(host.namespaces.spawn(argv, { stdio: 'pipe' }));
    const first = Number(await kernel.ask(String(PEERS)));
    await floor.entries(PEERS);
    const ours: number[] = [];
    const theirs: number[] = [];
    for (const _ of times(ROUNDS)) {
      await sleep(PAUSE_MS);
      ours.push(Number(await kernel.ask(String(PEERS))));
      await sleep(PAUSE_MS);
      theirs.push(await floor.entries(PEERS));
    }
    const value = median(theirs);
    const numbers = numbersOf(ours);
    return [
      {
        what: `first endpoint, ${PEERS} remote`,
        unit: 'ms',
        ours: numbers,
        floor: { what: floor.label, value },
        budget: '< 1.5 × floor',
        met: floor.judges ? numbers.p50 < 1.5 * value : undefined,
        note: `the very first time in a process, before anything is compiled: ${first.toFixed(0)} ms; ours includes namespace, bridge and VXLAN`,
      },
      {
        what: 'the same, absolutely',
        unit: 'ms',
        ours: { p50: numbers.p50, count: ROUNDS },
        budget: '≤ 80 ms',
        met: numbers.p50 <= 80,
      },
    ];
  },
};
