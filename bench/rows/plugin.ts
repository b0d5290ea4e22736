/** One endpoint after the other, as dockerd makes and removes them, against one bare transaction and the kernel. */
import { setTimeout as sleep } from 'node:timers/promises';
import { BARE_REMOVAL, type BareEndpoint, openBareEndpoint } from '../bare.js';
import { type KernelFloor, openFloor } from '../floor.js';
import { BenchLab } from '../lab.js';
import type { PluginClient } from '../plugin-client.js';
import { type Figure, median, numbersOf, type Row, rounds, timed, times, unjudged } from '../row.js';
import { byFresh, FRESH, PAUSE_MS, REMOVED_MS, WARM_UP } from '../warm.js';

const COUNT = 150;

const STEPS = ['create', 'join', 'both', 'leave', 'remove', 'transaction', 'kernel', 'removal'] as const;
type Samples = Record<(typeof STEPS)[number], number[]>;
const noSamples = () => Object.fromEntries(STEPS.map(step => [step, []])) as unknown as Samples;

interface Work {
  readonly plugin: PluginClient;
  readonly network: string;
  readonly floor: KernelFloor;
  readonly bare: BareEndpoint;
}

export const pluginRow: Row = {
  name: 'plugin',
  what: `CreateEndpoint, Join, Leave, DeleteEndpoint as dockerd calls them, ${COUNT} times with pauses, after ${WARM_UP} without`,
  async run() {
    await using lab = await BenchLab.start(1);
    await using agent = await lab.startAgent();
    await using floor = await openFloor(lab.host(0));
    const { plugin } = agent;
    const network = await plugin.createNetwork({ 'sand-name': 'bench' });
    await plugin.attach(network); // keeps the overlay namespace: a first endpoint has a row of its own
    const work = { plugin, network, floor, bare: await openBareEndpoint(lab.store, 'docker') };
    const samples = noSamples();
    const fresh = noSamples();
    for (const _ of times(FRESH)) await cycle(work, fresh);
    for (const _ of times(WARM_UP)) await cycle(work, noSamples(), 0);
    await sleep(REMOVED_MS);
    for (const _ of times(rounds(COUNT))) await cycle(work, samples);
    return figures({ samples, fresh }, floor);
  },
};

/** Ours and the floors after the same pause: a processor that has slept is slower for everybody. */
async function cycle(
  { plugin, network, floor, bare }: Work,
  into: Samples,
  pauseMs = PAUSE_MS,
): Promise<void> {
  await sleep(pauseMs);
  const startedAt = performance.now();
  const created = await plugin.createEndpoint(network);
  const createdAt = performance.now();
  const joined = await plugin.join(network, created);
  const joinedAt = performance.now();
  into.create.push(createdAt - startedAt);
  into.join.push(joinedAt - createdAt);
  into.both.push(joinedAt - startedAt);
  await sleep(pauseMs);
  into.leave.push(await timed(() => plugin.leave(network, joined)));
  into.remove.push(await timed(() => plugin.deleteEndpoint(network, joined)));
  await sleep(pauseMs);
  into.transaction.push(await timed(() => bare.make()));
  into.kernel.push(...(await floor.endpoints(1)));
  await sleep(pauseMs);
  into.removal.push(await timed(() => bare.remove()));
}

function figures(
  { samples, fresh }: { readonly samples: Samples; readonly fresh: Samples },
  { label, judges }: KernelFloor,
): Figure[] {
  const [transaction, links] = [median(samples.transaction), median(samples.kernel)];
  const what = `etcd ${transaction.toFixed(2)} + ${label} ${links.toFixed(2)}`;
  const value = transaction + links;
  const both = numbersOf(samples.both);
  const remove = numbersOf(samples.remove);
  const plain = (what: string, values: readonly number[]) => ({
    ...{ what, unit: 'ms', ours: numbersOf(values) },
    ...unjudged,
  });
  return [
    {
      what: 'CreateEndpoint + Join',
      unit: 'ms',
      ours: both,
      floor: { what, value },
      budget: 'p50 ≤ 2 × floor',
      met: judges ? both.p50 <= 2 * value : undefined,
      note: byFresh('CreateEndpoint + Join', fresh.both),
    },
    plain('CreateEndpoint', samples.create),
    plain('Join', samples.join),
    plain('Leave', samples.leave),
    {
      what: 'DeleteEndpoint',
      unit: 'ms',
      ours: remove,
      floor: { what: BARE_REMOVAL, value: median(samples.removal) },
      budget: 'p50 ≤ 3 ms',
      met: remove.p50 <= 3,
      note: byFresh('DeleteEndpoint', fresh.remove),
    },
  ];
}
