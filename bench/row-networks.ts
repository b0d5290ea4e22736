/** Making networks in a cluster that has none, and in one that has ten thousand. */
import { setTimeout as sleep } from 'node:timers/promises';
import { newNetworkId } from '../model/scalars.js';
import type { StoreClient } from '../store/client.js';
import { transact } from '../store/transaction.js';
import { type BenchAgent, BenchLab, KEYS } from './lab.js';
import { type Figure, median, numbersOf, type Row, timed, times } from './row.js';
import { networkWrites, seed } from './seed.js';

const COUNT = 150;
const WARM_UP = 30;
const OTHERS = 10_000;
const BUDGET_MS = 2;

export const networksRow: Row = {
  name: 'networks',
  what: `CreateNetwork, ${COUNT} times, with 0 and with ${OTHERS} networks in the cluster`,
  async run(say) {
    await using lab = await BenchLab.start(1);
    await using agent = await lab.startAgent();
    const empty = await measure(lab.store, agent);
    say(`writing ${OTHERS} networks`);
    const others = times(OTHERS).map(n => networkWrites({ name: `other-${n}`, vni: n + 1_000 }));
    await seed(
      lab.store,
      others.flatMap(({ writes }) => writes),
    );
    await agent.plugin.deleteNetwork(await agent.plugin.createNetwork({ 'sand-name': 'caught-up' }));
    const full = await measure(lab.store, agent);
    return [figure('0 networks', empty), figure(`${OTHERS} networks`, full), flatness(empty, full)];
  },
};

interface Samples {
  readonly ours: readonly number[];
  readonly bare: readonly number[];
}

async function measure(store: StoreClient, { plugin }: BenchAgent): Promise<Samples> {
  const ours: number[] = [];
  const bare: number[] = [];
  for (const index of times(WARM_UP + COUNT)) {
    let made = '';
    const took = await timed(async () => {
      made = await plugin.createNetwork({ 'sand-name': `bench-${index}-${newNetworkId()}` });
    });
    const alone = await timed(() => bareTransaction(store));
    if (index >= WARM_UP) {
      ours.push(took);
      bare.push(alone);
    }
    await plugin.deleteNetwork(made);
    await sleep(5);
  }
  return { ours, bare };
}

/** What CreateNetwork asks of etcd at least: record, attributes, pool, VNI, name and binding, each new. */
async function bareTransaction(store: StoreClient): Promise<void> {
  const vni = 500_000 + Math.floor(Math.random() * 499_999);
  const { id, writes } = networkWrites({ name: `bare-${newNetworkId()}`, vni });
  const binding = { put: `/bare/binding/${id}`, value: { network_id: id, docker_network_id: id.repeat(2) } };
  const docker = { put: `/bare/docker/${id}`, value: { DockerNetworkID: id, SandNetworkID: id } };
  const conditions = [
    { absent: KEYS.network(id) },
    { absent: KEYS.pool(id) },
    { empty: '/etcd-lock/vni-idgen/' },
  ];
  const moved = writes.map(write => ('put' in write ? { ...write, put: `/bare${write.put}` } : write));
  await transact(store, { conditions, writes: [...moved, binding, docker] });
}

function figure(where: string, { ours, bare }: Samples): Figure {
  const numbers = numbersOf(ours);
  return {
    what: `network create, ${where}`,
    unit: 'ms',
    ours: numbers,
    floor: { what: 'bare transaction', value: median(bare) },
    budget: `p50 ≤ ${BUDGET_MS} ms`,
    met: numbers.p50 <= BUDGET_MS,
  };
}

function flatness(empty: Samples, full: Samples): Figure {
  const ratio = median(full.ours) / median(empty.ours);
  const floorRatio = median(full.bare) / median(empty.bare);
  return {
    what: `${OTHERS} networks against none`,
    unit: '',
    ours: { p50: ratio, count: 1 },
    floor: { what: 'the bare transactions', value: floorRatio },
    budget: 'flat: ≤ 1.2',
    met: ratio <= 1.2 * Math.max(floorRatio, 1),
  };
}
