/** One endpoint after the other, as dockerd makes and removes them, against one bare transaction and the kernel. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from '../ipam/pool.js';
import { parseGateway, parseRange } from '../ipam/range.js';
import { newNetworkId } from '../model/scalars.js';
import type { StoreClient } from '../store/client.js';
import { type Condition, transact, type Write } from '../store/transaction.js';
import { type KernelFloor, openFloor } from './floor.js';
import { BenchLab, KEYS } from './lab.js';
import type { PluginClient } from './plugin-client.js';
import { type Figure, median, numbersOf, type Row, timed, times } from './row.js';
import { addressesOf, endpointRecord, endpointWrites, networkWrites, seed } from './seed.js';

const COUNT = 150;
const WARM_UP = 30;
const PAUSE_MS = 80; // the kernel removes links for 16 to 56 ms after the answer, and others wait for it
const RANGE = '10.0.0.0/24';

interface Samples {
  readonly create: number[];
  readonly join: number[];
  readonly both: number[];
  readonly remove: number[];
  readonly transaction: number[];
  readonly kernel: number[];
}

const noSamples = (): Samples => ({
  create: [],
  join: [],
  both: [],
  remove: [],
  transaction: [],
  kernel: [],
});

interface Work {
  readonly plugin: PluginClient;
  readonly network: string;
  readonly floor: KernelFloor;
  readonly bare: () => Promise<void>;
}

export const endpointRow: Row = {
  name: 'endpoint',
  what: `CreateEndpoint, Join, Leave, DeleteEndpoint, ${COUNT} times with pauses; a floor beside each`,
  async run() {
    await using lab = await BenchLab.start(1);
    await using agent = await lab.startAgent();
    await using floor = await openFloor(lab.host(0));
    const { plugin } = agent;
    const network = await plugin.createNetwork({ 'sand-name': 'bench' });
    await plugin.attach(network); // keeps the overlay namespace: a first endpoint has a row of its own
    const work = { plugin, network, floor, bare: await openBareTransaction(lab.store) };
    const samples = noSamples();
    for (const _ of times(WARM_UP)) await cycle(work, noSamples());
    for (const _ of times(COUNT)) await cycle(work, samples);
    return figures(samples, floor);
  },
};

/** Ours and the floors after the same pause: a processor that has slept is slower for everybody. */
async function cycle({ plugin, network, floor, bare }: Work, into: Samples): Promise<void> {
  await sleep(PAUSE_MS);
  const startedAt = performance.now();
  const created = await plugin.createEndpoint(network);
  const createdAt = performance.now();
  const joined = await plugin.join(network, created);
  const joinedAt = performance.now();
  await sleep(PAUSE_MS);
  await plugin.leave(network, joined);
  into.remove.push(await timed(() => plugin.deleteEndpoint(network, joined)));
  into.create.push(createdAt - startedAt);
  into.join.push(joinedAt - createdAt);
  into.both.push(joinedAt - startedAt);
  await sleep(PAUSE_MS);
  into.transaction.push(await timed(bare));
  into.kernel.push(...(await floor.endpoints(1)));
}

function figures(samples: Samples, { label, judges }: KernelFloor): Figure[] {
  const [transaction, links] = [median(samples.transaction), median(samples.kernel)];
  const what = `etcd ${transaction.toFixed(2)} + ${label} ${links.toFixed(2)}`;
  const floor = { what, value: transaction + links };
  const both = numbersOf(samples.both);
  const remove = numbersOf(samples.remove);
  return [
    {
      what: 'CreateEndpoint + Join',
      unit: 'ms',
      ours: both,
      floor,
      budget: 'p50 ≤ 2 × floor',
      met: judges ? both.p50 <= 2 * floor.value : undefined,
    },
    { what: 'CreateEndpoint alone', unit: 'ms', ours: numbersOf(samples.create), budget: '', met: undefined },
    { what: 'Join alone', unit: 'ms', ours: numbersOf(samples.join), budget: '', met: undefined },
    { what: 'DeleteEndpoint', unit: 'ms', ours: remove, budget: 'p50 ≤ 3 ms', met: remove.p50 <= 3 },
  ];
}

/** What CreateEndpoint asks of etcd, with nothing around it: the same conditions, keys and sizes of values. */
export async function openBareTransaction(store: StoreClient): Promise<() => Promise<void>> {
  const { id, writes } = networkWrites({
    name: `bare-${newNetworkId()}`,
    vni: 500_000 + Math.floor(Math.random() * 400_000),
  });
  await seed(store, writes);
  const range = parseRange(RANGE);
  const pool = Pool.fresh(id, range, parseGateway(range, undefined)).toRecord();
  const addresses = addressesOf(RANGE, 250);
  let poolRevision = await putPool();
  let count = 0;
  return async () => {
    const address = addresses[count++ % addresses.length] ?? addresses[0];
    if (!address) return;
    const record = endpointRecord({
      networkId: id,
      address,
      prefixLength: 24,
      hostname: 'bare',
      vtep: '10.79.0.9',
    });
    const dockerId = randomUUID().replaceAll('-', '').repeat(2);
    const docker = { endpoint_id: dockerId, network_id: dockerId, address_source: 'sand-driver' as const };
    const owner = {
      kind: 'endpoint',
      endpoint_id: record.id,
      hostname: 'bare',
      op: randomUUID(),
      at: Date.now(),
    };
    const link = {
      DockerNetworkID: dockerId,
      SandNetworkID: id,
      DockerEndpointID: dockerId,
      SandEndpointID: record.id,
    };
    const conditions: Condition[] = [
      { exists: KEYS.network(id) },
      { unchanged: KEYS.pool(id), revision: poolRevision },
      { exists: KEYS.network(id) },
      { empty: `/etcd-lock/ipalloc-lock/${id}/` },
    ];
    const puts: Write[] = [
      { put: KEYS.addressOwner(id, address), value: owner },
      ...endpointWrites({ ...record, docker }),
      { put: KEYS.dockerEndpoint(dockerId), value: link },
      { put: KEYS.pool(id), value: pool },
    ];
    const result = await transact(store, { conditions, writes: puts });
    if (!result.committed) throw new Error('The bare transaction was refused');
    poolRevision = result.revision;
  };

  async function putPool(): Promise<number> {
    const { revision } = await transact(store, {
      conditions: [],
      writes: [{ put: KEYS.pool(id), value: pool }],
    });
    return revision;
  }
}
