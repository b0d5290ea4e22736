/** Many callers at once on one network: one agent with 64 of them, and 8 agents with 8 each. */

import { type BenchAgent, BenchLab } from './lab.js';
import type { Endpoint, PluginClient } from './plugin-client.js';
import { type Figure, median, numbersOf, type Row, times } from './row.js';
import { networkWrites, seed } from './seed.js';

const RANGE = '10.16.0.0/20';
const ROUNDS = 4; // the first is for warming up

interface Plan {
  readonly name: string;
  readonly agents: number;
  readonly clientsPerAgent: number;
  readonly endpointsPerClient: number;
  readonly leastPerSecond: number;
}

interface Round {
  readonly perSecond: number;
  readonly removedPerSecond: number;
  readonly latencies: readonly number[];
  readonly failures: readonly string[];
  readonly duplicates: number;
}

interface Client {
  readonly plugin: PluginClient;
  readonly dockerNetwork: string;
}

const rowOf = (plan: Plan): Row => ({
  name: plan.name,
  what: `${plan.agents} × ${plan.clientsPerAgent} callers, each makes ${plan.endpointsPerClient} endpoints, ${ROUNDS} rounds`,
  async run(say) {
    await using lab = await BenchLab.start(plan.agents);
    const { id, writes } = networkWrites({ name: 'rush', vni: 7, range: RANGE });
    await seed(lab.store, writes);
    const agents: BenchAgent[] = [];
    for (const index of times(plan.agents)) agents.push(await lab.startAgent(index));
    const clients: Client[] = [];
    for (const agent of agents) {
      const dockerNetwork = await agent.plugin.createNetwork({ 'sand-id': id });
      for (const _ of times(plan.clientsPerAgent)) clients.push({ plugin: agent.connect(), dockerNetwork });
    }
    const rounds: Round[] = [];
    for (const _ of times(ROUNDS)) {
      const round = await rush(clients, plan.endpointsPerClient);
      say(`${round.perSecond.toFixed(0)}/s made, ${round.removedPerSecond.toFixed(0)}/s removed`);
      rounds.push(round);
    }
    for (const { plugin } of clients) plugin.close();
    return figures(plan, rounds.slice(1));
  },
});

export const clientsRow = rowOf({
  name: 'clients',
  agents: 1,
  clientsPerAgent: 64,
  endpointsPerClient: 12, // 768: a bridge of the kernel takes 1,023 ports
  leastPerSecond: 700,
});

export const agentsRow = rowOf({
  name: 'agents',
  agents: 8,
  clientsPerAgent: 8,
  endpointsPerClient: 12,
  leastPerSecond: 520,
});

/** Everybody makes endpoints as fast as the answers come; then everybody removes them. */
async function rush(clients: readonly Client[], each: number): Promise<Round> {
  const latencies: number[] = [];
  const failures: string[] = [];
  const made: { readonly client: Client; readonly endpoint: Endpoint }[] = [];
  const startedAt = performance.now();
  await Promise.all(
    clients.map(async client => {
      for (const _ of times(each)) {
        const at = performance.now();
        try {
          const endpoint = await client.plugin.attach(client.dockerNetwork);
          latencies.push(performance.now() - at);
          made.push({ client, endpoint });
        } catch (error) {
          failures.push(String(error));
        }
      }
    }),
  );
  const madeAt = performance.now();
  const duplicates = made.length - new Set(made.map(({ endpoint }) => endpoint.address)).size;
  await removeAll(made, failures);
  const removedAt = performance.now();
  return {
    perSecond: made.length / ((madeAt - startedAt) / 1000),
    removedPerSecond: made.length / ((removedAt - madeAt) / 1000),
    latencies,
    failures,
    duplicates,
  };
}

async function removeAll(
  made: readonly { readonly client: Client; readonly endpoint: Endpoint }[],
  failures: string[],
): Promise<void> {
  const byClient = new Map<Client, Endpoint[]>();
  for (const { client, endpoint } of made) {
    const own = byClient.get(client) ?? [];
    own.push(endpoint);
    byClient.set(client, own);
  }
  await Promise.all(
    [...byClient].map(async ([{ plugin, dockerNetwork }, endpoints]) => {
      for (const endpoint of endpoints) {
        await plugin.leave(dockerNetwork, endpoint);
        await plugin.deleteEndpoint(dockerNetwork, endpoint).catch(error => failures.push(String(error)));
      }
    }),
  );
}

function figures(plan: Plan, rounds: readonly Round[]): Figure[] {
  const rates = rounds.map(({ perSecond }) => perSecond);
  const rate = median(rates);
  const latency = numbersOf(rounds.flatMap(({ latencies }) => latencies));
  const failures = rounds.flatMap(round => round.failures);
  const duplicates = rounds.reduce((sum, round) => sum + round.duplicates, 0);
  const removed = median(rounds.map(({ removedPerSecond }) => removedPerSecond));
  return [
    {
      what: 'endpoints made',
      unit: '/s',
      ours: { p50: rate, count: rounds.length },
      budget: `≥ ${plan.leastPerSecond}/s`,
      met: rate >= plan.leastPerSecond,
    },
    {
      what: 'CreateEndpoint + Join',
      unit: 'ms',
      ours: latency,
      budget: 'p99 ≤ 250 ms',
      met: (latency.p99 ?? Number.POSITIVE_INFINITY) <= 250,
    },
    {
      what: 'endpoints removed',
      unit: '/s',
      ours: { p50: removed, count: rounds.length },
      budget: '',
      met: undefined,
    },
    {
      what: 'failures + duplicate addresses',
      unit: '',
      ours: { p50: failures.length + duplicates, count: 1 },
      budget: 'none',
      met: failures.length + duplicates === 0,
      ...(failures[0] ? { note: `${failures.length} failures, such as: ${failures[0]}` } : {}),
    },
  ];
}
