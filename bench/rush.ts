/** Everybody makes endpoints over the API as fast as the answers come; then everybody removes them. */
import type { ApiClient, ApiEndpoint } from './api-client.js';
import { type CpuTime, cpuBetween, cpuTimeOfAll } from './cpu.js';
import { type BenchAgent, type BenchLab, makeTargets } from './lab.js';
import { times } from './row.js';

/** Of networks that take the endpoints of all callers at once. */
export const RUSH_RANGE = '10.16.0.0/20';

const PARTIES = ['agents', 'etcd', 'callers'] as const;
type Party = (typeof PARTIES)[number];
export type Pids = Readonly<Record<Party, readonly number[]>>;

export interface Rushed {
  readonly perSecond: number;
  readonly removedPerSecond: number;
  /** Milliseconds of every call. */
  readonly created: readonly number[];
  readonly removed: readonly number[];
  readonly failures: readonly string[];
  readonly duplicates: number;
  /** While endpoints were made: of the agents, etcd, and the callers in this process. */
  readonly cpu: Readonly<Record<Party, CpuTime>>;
}

export interface RushClient {
  readonly api: ApiClient;
  /** Its own: two callers of one namespace would wait for each other's choice of a name. */
  readonly netns: string;
  /** Used in turn. */
  readonly networks: readonly string[];
}

export const pidsOf = (lab: BenchLab, agents: readonly BenchAgent[]): Pids => ({
  agents: agents.map(({ pid }) => pid),
  etcd: lab.etcd.members.flatMap(({ pid }) => pid ?? []),
  callers: [process.pid],
});

let crowds = 0;

/** Callers with connections and namespaces of their own, and an endpoint in each network of each agent that stays. */
export async function rushClients(
  agents: readonly BenchAgent[],
  { networks, perAgent }: { readonly networks: readonly string[]; readonly perAgent: number },
): Promise<AsyncDisposable & { readonly list: readonly RushClient[] }> {
  const list: RushClient[] = [];
  const kept: { readonly api: ApiClient; readonly id: string }[] = [];
  const crowd = crowds++;
  for (const agent of agents) {
    const [keeper = '', ...targets] = await makeTargets(agent.host, perAgent + 1, `crowd-${crowd}`);
    const api = agent.api();
    for (const network of networks) kept.push({ api, id: (await api.attach(network, keeper)).id });
    for (const [index, netns] of targets.entries()) {
      // Everybody begins with another network.
      const turned = [
        ...networks.slice(index % networks.length),
        ...networks.slice(0, index % networks.length),
      ];
      list.push({ api: agent.api(), netns, networks: turned });
    }
  }
  return {
    list,
    async [Symbol.asyncDispose]() {
      for (const { api, id } of kept) await api.deleteEndpoint(id);
      for (const { api } of [...kept, ...list]) api.close();
    },
  };
}

/** @param each how many endpoints every caller makes */
export async function rush(clients: readonly RushClient[], each: number, pids: Pids): Promise<Rushed> {
  const failures: string[] = [];
  const made = new Map<RushClient, (ApiEndpoint & { readonly network: string })[]>();
  const cpuBefore = await cpuOf(pids);
  const creation = await timedCalls(clients.map(client => () => makeSome(client, { each, made, failures })));
  const cpuAfter = await cpuOf(pids);
  const all = [...made.values()].flat();
  const removal = await timedCalls(
    [...made].map(
      ([{ api }, own]) =>
        () =>
          removeSome(api, own, failures),
    ),
  );
  return {
    perSecond: all.length / (creation.totalMs / 1000),
    removedPerSecond: all.length / (removal.totalMs / 1000),
    created: creation.calls,
    removed: removal.calls,
    failures,
    duplicates: all.length - new Set(all.map(({ network, address }) => `${network} ${address}`)).size,
    cpu: between(cpuBefore, cpuAfter),
  };
}

async function timedCalls(workers: readonly (() => Promise<number[]>)[]) {
  const startedAt = performance.now();
  const calls = (await Promise.all(workers.map(work => work()))).flat();
  return { calls, totalMs: performance.now() - startedAt };
}

interface Making {
  readonly each: number;
  readonly made: Map<RushClient, (ApiEndpoint & { readonly network: string })[]>;
  readonly failures: string[];
}

async function makeSome(client: RushClient, { each, made, failures }: Making): Promise<number[]> {
  const latencies: number[] = [];
  const own: (ApiEndpoint & { readonly network: string })[] = [];
  made.set(client, own);
  for (const turn of times(each)) {
    const network = client.networks[turn % client.networks.length] ?? '';
    const at = performance.now();
    try {
      own.push({ ...(await client.api.attach(network, client.netns)), network });
      latencies.push(performance.now() - at);
    } catch (error) {
      failures.push(String(error));
    }
  }
  return latencies;
}

async function removeSome(
  api: ApiClient,
  own: readonly ApiEndpoint[],
  failures: string[],
): Promise<number[]> {
  const latencies: number[] = [];
  for (const { id } of own) {
    const at = performance.now();
    await api.deleteEndpoint(id).catch(error => failures.push(String(error)));
    latencies.push(performance.now() - at);
  }
  return latencies;
}

async function cpuOf(pids: Pids): Promise<Record<Party, CpuTime>> {
  const entries = PARTIES.map(async party => [party, await cpuTimeOfAll(pids[party])] as const);
  return Object.fromEntries(await Promise.all(entries)) as Record<Party, CpuTime>;
}

const between = (before: Record<Party, CpuTime>, after: Record<Party, CpuTime>) =>
  Object.fromEntries(PARTIES.map(party => [party, cpuBetween(before[party], after[party])])) as Record<
    Party,
    CpuTime
  >;

/** What one endpoint costs whom: how many a second a machine can make follows from it. */
export function describeCpu(rounds: readonly Rushed[]): string {
  const made = rounds.reduce((sum, { created }) => sum + created.length, 0);
  const of = (party: Party, key: keyof CpuTime) =>
    (rounds.reduce((sum, { cpu }) => sum + cpu[party][key], 0) / made).toFixed(2);
  const each = PARTIES.map(party => `${party} ${of(party, 'userMs')} + ${of(party, 'systemMs')}`);
  return `processor ms for each endpoint made, user + system: ${each.join(', ')}`;
}
