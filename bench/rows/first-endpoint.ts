/** The first endpoint of a network that has many elsewhere: over the API, and the kernel's part alone beside C. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ApiClient } from '../api-client.js';
import { openBareEndpoint } from '../bare.js';
import { LineChild } from '../child.js';
import { type KernelFloor, openFloor } from '../floor.js';
import { type BenchHost, BenchLab, makeTargets } from '../lab.js';
import {
  type Figure,
  median,
  numbersOf,
  type Row,
  rounds,
  type Say,
  timed,
  times,
  unjudged,
} from '../row.js';
import { populate } from '../seed.js';

const SIZES = [100, 1_000, 10_000] as const;
const LARGEST = SIZES[2];
const ROUNDS = 12;
const PAUSE_MS = 300; // the kernel clears the last round's namespaces away meanwhile
const GONE_MS = 900; // an empty overlay namespace lingers for 400 ms
const RANGE = '10.64.0.0/16';
const CHILD = fileURLToPath(new URL('../kernel-child.js', import.meta.url));

export const firstEndpointRow: Row = {
  name: 'first-endpoint',
  what: `the first endpoint on a host of a network with ${SIZES.join(', ')} endpoints elsewhere, ${ROUNDS} times each`,
  async run(say) {
    await using lab = await BenchLab.start(1);
    await using floor = await openFloor(lab.host(0));
    return [...(await kernelPart(lab.host(0), floor)), ...(await overApi(lab, floor, say))];
  },
};

/** Namespace, bridge, VXLAN and two entries for each, from packing the list to the answer of the kernel worker. */
async function kernelPart(host: BenchHost, floor: KernelFloor): Promise<Figure[]> {
  const argv = [process.execPath, CHILD, host.address];
  await using kernel = new LineChild(host.namespaces.spawn(argv, { stdio: 'pipe' }));
  const first = Number(await kernel.ask(String(LARGEST)));
  await floor.entries(LARGEST);
  const ours: number[] = [];
  const theirs: number[] = [];
  for (const _ of times(rounds(ROUNDS))) {
    await sleep(PAUSE_MS);
    ours.push(Number(await kernel.ask(String(LARGEST))));
    await sleep(PAUSE_MS);
    theirs.push(await floor.entries(LARGEST));
  }
  const value = median(theirs);
  const numbers = numbersOf(ours);
  return [
    {
      what: `the kernel's part alone, ${LARGEST} elsewhere`,
      unit: 'ms',
      ours: numbers,
      floor: { what: floor.label, value },
      budget: '< 1.5 × floor',
      met: floor.judges ? numbers.p50 < 1.5 * value : undefined,
      note: `the very first time in a process, before anything is compiled: ${first.toFixed(0)} ms; ours includes namespace, bridge and VXLAN`,
    },
  ];
}

async function overApi(lab: BenchLab, floor: KernelFloor, say: Say): Promise<Figure[]> {
  say('the same over the API');
  const networks: string[] = [];
  for (const [index, endpoints] of SIZES.entries()) {
    networks.push(
      await populate(lab.store, { name: `size-${endpoints}`, vni: 100 + index, range: RANGE, endpoints }),
    );
  }
  await using agent = await lab.startAgent();
  const api = agent.api();
  const [netns = ''] = await makeTargets(lab.host(0), 1);
  const { make: bare } = await openBareEndpoint(lab.store, 'netns');
  const figures: Figure[] = [];
  for (const [index, network] of networks.entries()) {
    figures.push(await measure(SIZES[index] ?? 0, { api, network, netns, floor, bare }));
  }
  api.close();
  return figures;
}

interface Scene {
  readonly api: ApiClient;
  readonly network: string;
  readonly netns: string;
  readonly floor: KernelFloor;
  readonly bare: () => Promise<void>;
}

async function measure(size: number, { api, network, netns, floor, bare }: Scene): Promise<Figure> {
  const ours: number[] = [];
  const theirs: number[] = [];
  for (const round of times(rounds(ROUNDS) + 1)) {
    const startedAt = performance.now();
    const { id } = await api.attach(network, netns);
    const took = performance.now() - startedAt;
    await api.deleteEndpoint(id);
    await sleep(GONE_MS);
    const [plug = 0] = await floor.attached(1);
    const alone = (await timed(bare)) + plug + (await floor.entries(size));
    await sleep(PAUSE_MS);
    if (round === 0) continue;
    ours.push(took);
    theirs.push(alone);
  }
  const numbers = numbersOf(ours);
  return {
    what: `first endpoint over the API, ${size} elsewhere`,
    unit: 'ms',
    ours: numbers,
    floor: { what: `etcd + ${floor.label}`, value: median(theirs) },
    ...(size === LARGEST ? { budget: 'p50 ≤ 80 ms', met: numbers.p50 <= 80 } : unjudged),
  };
}
