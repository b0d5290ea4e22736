/** Many callers at once on one network: one agent with 64 of them, and 8 agents with 8 each. */

import { type CpuTime, cpuBetween, cpuTimeOfAll } from './cpu.js';
import { type KernelFloor, openFloor } from './floor.js';
import { type BenchAgent, BenchLab } from './lab.js';
import type { Endpoint, PluginClient } from './plugin-client.js';
import { type Figure, median, numbersOf, type Row, times } from './row.js';
import { networkWrites, seed } from './seed.js';

const RANGE = '10.16.0.0/20';
const ROUNDS = 4; // the first is for warming up
const WARM_UP = 20;

type Floor = NonNullable<Figure['floor']>;

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
  /** While endpoints were made: of the agents, etcd, and the callers in this process. */
  readonly cpu: Readonly<Record<Party, CpuTime>>;
}

const PARTIES = ['agents', 'etcd', 'callers'] as const;
type Party = (typeof PARTIES)[number];
type Pids = Readonly<Record<Party, readonly number[]>>;

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
    const pids = {
      agents: agents.map(({ process: { pid } }) => pid),
      etcd: lab.etcd.members.flatMap(({ pid }) => pid ?? []),
      callers: [process.pid],
    };
    const rounds: Round[] = [];
    for (const _ of times(ROUNDS)) {
      const round = await rush(clients, plan.endpointsPerClient, pids);
      say(`${round.perSecond.toFixed(0)}/s made, ${round.removedPerSecond.toFixed(0)}/s removed`);
      rounds.push(round);
    }
    for (const { plugin } of clients) plugin.close();
    for (const agent of agents) await agent[Symbol.asyncDispose]();
    await using floor = await openFloor(lab.host(0));
    return figures(plan, rounds.slice(1), await kernelRate(floor, plan));
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

/** Veth pairs a second that one thread gets out of the kernel, in a bridge that grows to as many ports. */
async function kernelRate(floor: KernelFloor, { clientsPerAgent, endpointsPerClient }: Plan) {
  await floor.endpoints(WARM_UP);
  const durations = await floor.endpoints(clientsPerAgent * endpointsPerClient);
  const totalMs = durations.reduce((sum, each) => sum + each, 0);
  return { what: `${floor.label}, kernel work alone`, value: (durations.length / totalMs) * 1000 };
}

async function cpuOf(pids: Pids): Promise<Record<Party, CpuTime>> {
  const [agents, etcd, callers] = await Promise.all(PARTIES.map(party => cpuTimeOfAll(pids[party])));
  const none = { userMs: 0, systemMs: 0 };
  return { agents: agents ?? none, etcd: etcd ?? none, callers: callers ?? none };
}

/** Everybody makes endpoints as fast as the answers come; then everybody removes them. */
async function rush(clients: readonly Client[], each: number, pids: Pids): Promise<Round> {
  const cpuBefore = await cpuOf(pids);
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
  const cpuAfter = await cpuOf(pids);
  const removingAt = performance.now();
  const duplicates = made.length - new Set(made.map(({ endpoint }) => endpoint.address)).size;
  await removeAll(made, failures);
  const removedAt = performance.now();
  return {
    perSecond: made.length / ((madeAt - startedAt) / 1000),
    removedPerSecond: made.length / ((removedAt - removingAt) / 1000),
    latencies,
    failures,
    duplicates,
    cpu: {
      agents: cpuBetween(cpuBefore.agents, cpuAfter.agents),
      etcd: cpuBetween(cpuBefore.etcd, cpuAfter.etcd),
      callers: cpuBetween(cpuBefore.callers, cpuAfter.callers),
    },
  };
}

/** What one endpoint costs whom: how many a second a machine can make follows from it. */
function describeCpu(rounds: readonly Round[]): string {
  const made = rounds.reduce((sum, { latencies }) => sum + latencies.length, 0);
  const of = (party: Party, key: keyof CpuTime) =>
    (rounds.reduce((sum, { cpu }) => sum + cpu[party][key], 0) / made).toFixed(2);
  const each = PARTIES.map(party => `${party} ${of(party, 'userMs')} + ${of(party, 'systemMs')}`);
  return `processor ms for each endpoint made, user + system: ${each.join(', ')}`;
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

function figures(plan: Plan, rounds: readonly Round[], floor: Floor): Figure[] {
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
      floor,
      note: describeCpu(rounds),
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
