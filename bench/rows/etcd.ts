/** What operations ask of etcd, and what agents ask of it that have nothing to do: counted by etcd itself. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ApiClient } from '../api-client.js';
import { bareNetwork, openBareEndpoint } from '../bare.js';
import { cpuBetween, cpuTimeOfAll } from '../cpu.js';
import { type EtcdLoad, etcdLoad, loadBetween, watchers } from '../etcd-metrics.js';
import { BenchLab, makeTargets } from '../lab.js';
import type { Endpoint, PluginClient } from '../plugin-client.js';
import { type Figure, isQuick, type Row, rounds, single, times, unjudged } from '../row.js';

const COUNT = 100;
const QUIET_MS = 1_500; // what an operation leaves to be done later belongs to it
const AGENTS = isQuick ? 10 : 50;
const IDLE_MS = isQuick ? 10_000 : 60_000;
const BEFORE_IDLE_MS = 15_000;

interface Operation {
  readonly what: string;
  once(index: number): Promise<unknown>;
  /** The same of etcd alone. */
  readonly floor?: () => Promise<unknown>;
}

export const etcdRow: Row = {
  name: 'etcd',
  what: `requests and bytes of etcd for each operation, ${COUNT} times each`,
  async run(say) {
    await using lab = await BenchLab.start(1);
    await using agent = await lab.startAgent();
    const api = agent.api();
    const [netns = ''] = await makeTargets(lab.host(0), 1);
    const operations = [...(await overApi(lab, api, netns)), ...(await overPlugin(lab, agent.plugin))];
    const figures: Figure[] = [];
    for (const operation of operations) {
      say(operation.what);
      figures.push(...(await countOf(lab, operation)));
    }
    api.close();
    return figures;
  },
};

async function overApi({ store }: BenchLab, api: ApiClient, netns: string): Promise<Operation[]> {
  const network = await api.createNetwork({ name: 'counted' });
  await api.attach(network, netns); // keeps the overlay namespace
  const networks: string[] = [];
  const endpoints: string[] = [];
  return [
    {
      what: 'network create',
      once: async index => networks.push(await api.createNetwork({ name: `n-${index}` })),
      floor: () => bareNetwork(store),
    },
    { what: 'network delete', once: () => api.deleteNetwork(networks.pop() ?? '') },
    {
      what: 'endpoint create + activate',
      once: async () => endpoints.push((await api.attach(network, netns)).id),
      floor: (await openBareEndpoint(store, 'netns')).make,
    },
    { what: 'endpoint delete', once: () => api.deleteEndpoint(endpoints.pop() ?? '') },
  ];
}

async function overPlugin({ store }: BenchLab, plugin: PluginClient): Promise<Operation[]> {
  const network = await plugin.createNetwork({ 'sand-name': 'counted-too' });
  await plugin.attach(network);
  const endpoints: Endpoint[] = [];
  return [
    {
      what: 'CreateEndpoint + Join',
      once: async () => endpoints.push(await plugin.attach(network)),
      floor: (await openBareEndpoint(store, 'docker')).make,
    },
    {
      what: 'Leave + DeleteEndpoint',
      once: async () => {
        const endpoint = endpoints.pop();
        if (!endpoint) return;
        await plugin.leave(network, endpoint);
        await plugin.deleteEndpoint(network, endpoint);
      },
    },
  ];
}

async function countOf(lab: BenchLab, { what, once, floor }: Operation): Promise<Figure[]> {
  const count = rounds(COUNT);
  const ours = each(
    await loadOf(
      lab,
      times(count).map(index => () => once(index)),
    ),
    count,
  );
  const bare =
    floor &&
    each(
      await loadOf(
        lab,
        times(count).map(() => floor),
      ),
      count,
    );
  const figure = (name: string, unit: string, of: (load: Counts) => number): Figure => ({
    what: `${name}, ${what}`,
    unit,
    ours: single(of(ours)),
    ...(bare ? { floor: { what: 'one bare transaction', value: of(bare) } } : {}),
    ...unjudged,
  });
  return [
    figure('requests', '', load => load.requests),
    figure('bytes to etcd', 'B', load => load.receivedBytes),
    figure('bytes from etcd', 'B', load => load.sentBytes),
  ];
}

async function loadOf(lab: BenchLab, steps: readonly (() => Promise<unknown>)[]): Promise<EtcdLoad> {
  await sleep(QUIET_MS);
  const before = await etcdLoad(lab);
  for (const step of steps) await step();
  await sleep(QUIET_MS);
  return loadBetween(before, await etcdLoad(lab));
}

type Counts = Omit<EtcdLoad, 'byMethod'>;

const each = ({ requests, receivedBytes, sentBytes }: Counts, count: number): Counts => ({
  requests: requests / count,
  receivedBytes: receivedBytes / count,
  sentBytes: sentBytes / count,
});

export const idleRow: Row = {
  name: 'idle',
  what: `${AGENTS} agents with an endpoint each and nothing to do, for ${IDLE_MS / 1000} s: etcd's requests, processor time`,
  async run(say) {
    await using lab = await BenchLab.start(AGENTS);
    const watchersBefore = await watchers(lab);
    const own = await idleLoad(lab); // the benchmark's own line to etcd
    const agents = await lab.startAgents(0, AGENTS);
    say(`${AGENTS} agents are started`);
    for (const { plugin } of agents) {
      await plugin.attach(await plugin.createNetwork({ 'sand-name': 'shared' }));
    }
    await sleep(BEFORE_IDLE_MS);
    say(`nobody does anything for ${IDLE_MS / 1000} s`);
    const pids = agents.map(({ pid }) => pid);
    const cpuBefore = await cpuTimeOfAll(pids);
    const load = loadBetween(own, await idleLoad(lab));
    const cpu = cpuBetween(cpuBefore, await cpuTimeOfAll(pids));
    const open = (await watchers(lab)) - watchersBefore;
    return idleFigures(load, { watches: open, cpuMs: cpu.userMs + cpu.systemMs });
  },
};

/** What etcd counts in IDLE_MS. */
async function idleLoad(lab: BenchLab): Promise<EtcdLoad> {
  const before = await etcdLoad(lab);
  await sleep(IDLE_MS);
  return loadBetween(before, await etcdLoad(lab));
}

function idleFigures(load: EtcdLoad, rest: { readonly watches: number; readonly cpuMs: number }): Figure[] {
  const agentSeconds = (AGENTS * IDLE_MS) / 1000;
  const perSecond = load.requests / agentSeconds;
  const methods = [...load.byMethod].filter(([, count]) => count > 0);
  const shares = methods.map(([name, count]) => `${name} ${(count / agentSeconds).toFixed(3)}`);
  const plain = (what: string, unit: string, value: number) => ({
    what,
    unit,
    ours: single(value),
    ...unjudged,
  });
  return [
    {
      what: `requests to etcd of each of ${AGENTS} idle agents`,
      unit: '/s',
      ours: single(perSecond),
      budget: '≤ 0.1/s',
      met: perSecond <= 0.1,
      note: `requests a second by method: ${shares.join(', ')}`,
    },
    plain('bytes to and from etcd, each', 'B/s', (load.receivedBytes + load.sentBytes) / agentSeconds),
    plain('watches of etcd, each', '', rest.watches / AGENTS),
    plain('processor time in a minute, each', 'ms', (rest.cpuMs / agentSeconds) * 60),
  ];
}
