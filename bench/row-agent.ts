/** The agent itself: how soon its plugin socket answers, and what it weighs. */
import { setTimeout as sleep } from 'node:timers/promises';
import { BenchLab } from './lab.js';
import { numbersOf, type Row, single, times } from './row.js';
import { addressesOf, endpointRecord, endpointWrites, networkWrites, seed } from './seed.js';

const STARTS = 12;
const NETWORKS = 10;
const ENDPOINTS = 10_000;
const RANGE = '10.24.0.0/20';
const SETTLE_MS = 4_000;

export const agentRow: Row = {
  name: 'agent',
  what: `${STARTS} starts until Plugin.Activate answers; resident memory idle and with ${ENDPOINTS} known endpoints`,
  async run(say) {
    await using lab = await BenchLab.start(1);
    const starts: number[] = [];
    for (const _ of times(STARTS)) {
      await using agent = await lab.startAgent();
      starts.push(agent.startMs);
    }
    const idle = await residentAfterStart(lab);
    say(`writing ${ENDPOINTS} endpoints of other hosts`);
    await seedEndpoints(lab);
    const full = await residentAfterStart(lab);
    const start = numbersOf(starts);
    return [
      {
        what: 'plugin socket answers after start',
        unit: 'ms',
        ours: start,
        budget: '≤ 400 ms',
        met: Math.max(...starts) <= 400,
      },
      { what: 'resident memory, idle', unit: 'MB', ours: single(idle), budget: '≤ 130 MB', met: idle <= 130 },
      {
        what: `resident memory, ${ENDPOINTS} endpoints known`,
        unit: 'MB',
        ours: single(full),
        budget: '≤ 170 MB',
        met: full <= 170,
      },
    ];
  },
};

async function residentAfterStart(lab: BenchLab): Promise<number> {
  await using agent = await lab.startAgent();
  // A network and an endpoint of its own: everything that is loaded late has been loaded
  const network = await agent.plugin.createNetwork({ 'sand-name': 'weighed' });
  const endpoint = await agent.plugin.attach(network);
  await agent.plugin.leave(network, endpoint);
  await agent.plugin.deleteEndpoint(network, endpoint);
  await agent.plugin.deleteNetwork(network);
  await sleep(SETTLE_MS);
  return agent.residentMb();
}

async function seedEndpoints(lab: BenchLab): Promise<void> {
  for (const index of times(NETWORKS)) {
    const { id, writes } = networkWrites({ name: `large-${index}`, vni: 100 + index, range: RANGE });
    const records = addressesOf(RANGE, ENDPOINTS / NETWORKS).map((address, n) =>
      endpointRecord({
        networkId: id,
        address,
        prefixLength: 20,
        hostname: `other-${n % 50}`,
        vtep: `10.79.1.${1 + (n % 50)}`,
      }),
    );
    await seed(lab.store, [...writes, ...records.flatMap(endpointWrites)]);
  }
}
