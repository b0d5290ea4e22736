/** What is done to the simulated cluster, one after the other, and what is measured of it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { IpAddress } from '../model/scalars.js';
import type { StoreClient } from '../store/client.js';
import { transact } from '../store/transaction.js';
import type { EtcdCluster } from '../test/support/etcd.js';
import { until } from '../test/support/until.js';
import { percentile, times } from './row.js';
import type { Cluster } from './scale-cluster.js';
import { countersOf, PeakWatch, ratesBetween, residentMb, slowRequests } from './scale-etcd.js';
import type { AgentProcesses, AgentState } from './scale-processes.js';

export interface Scene {
  readonly etcd: EtcdCluster;
  readonly store: StoreClient;
  readonly agents: AgentProcesses;
  readonly cluster: Cluster;
  /** Numbers of all hosts. */
  readonly hosts: readonly number[];
  say(text: string): void;
}

const PATIENCE_MS = 15 * 60_000;
const IDLE_MS = 30_000;
const CHANGES = 100;
const CHANGE_EVERY_MS = 100;
const BURST = 1_500;
const IN_FLIGHT = 16;

const nowMs = () => Number(process.hrtime.bigint()) / 1e6;
const rounded = (value: number) => Number(value.toPrecision(3));
const spread = (values: readonly number[]) => ({
  p50: rounded(percentile(values, 0.5)),
  p99: rounded(percentile(values, 0.99)),
  most: rounded(Math.max(...values)),
});

const wait = (what: string, condition: () => Promise<boolean>) =>
  until(condition, { timeoutMs: PATIENCE_MS, what, everyMs: 50 });

const statesThat = async (scene: Scene, count: number, ready: (state: AgentState) => boolean) => {
  const states = await scene.agents.states();
  return states.length === count && states.every(ready);
};

const networksOf = ({ cluster }: Scene) => {
  const { hosts, networks } = cluster.size;
  return Math.floor((networks * Math.min(5, hosts)) / hosts);
};

/** One agent into the full cluster, on a machine that is otherwise idle. */
export async function firstAgent(scene: Scene) {
  const { agents, etcd } = scene;
  const before = await countersOf(etcd);
  const [cpu, memoryBefore] = [await agents.cpuMs(), await agents.memory()];
  const startedAt = nowMs();
  await agents.start([0]);
  await wait('the agent knows', () => statesThat(scene, 1, ({ knowsMs }) => knowsMs !== undefined));
  await wait('its kernel is as wanted', () =>
    statesThat(scene, 1, ({ networks }) => networks >= networksOf(scene) - 1),
  );
  const kernelMs = nowMs() - startedAt;
  await sleep(3_000); // orphans, limits and the like
  const [state] = await agents.states();
  const after = await countersOf(etcd);
  const [resident, memoryAfter] = [await residentMb(agents.pids[0] ?? 0), await agents.memory()];
  const grown = (key: 'heapUsed' | 'arrayBuffers') =>
    ((memoryAfter[0]?.[key] ?? 0) - (memoryBefore[0]?.[key] ?? 0)) / 1e6;
  return {
    firstSnapshotMs: Math.round(state?.knowsMs ?? 0),
    kernelAsWantedMs: Math.round(kernelMs),
    cpuMs: Math.round((await agents.cpuMs()) - cpu),
    readMb: rounded((after.sentBytes - before.sentBytes) / 1e6),
    requests: after.requests - before.requests,
    messages: state?.messages,
    residentMb: Math.round(resident),
    heapMb: rounded(grown('heapUsed')),
    columnsMb: rounded(grown('arrayBuffers')),
  };
}

/** All hosts come back at the same moment. */
export async function powerCut(scene: Scene) {
  const { agents, etcd, hosts } = scene;
  await agents.stop();
  await using peak = new PeakWatch(etcd);
  const before = await countersOf(etcd);
  const cpu = await agents.cpuMs();
  const startedAt = nowMs();
  await agents.start(hosts);
  await wait('all agents know', () =>
    statesThat(scene, hosts.length, ({ knowsMs }) => knowsMs !== undefined),
  );
  const known = nowMs() - startedAt;
  const wanted = networksOf(scene) - 1;
  await wait('all kernels are as wanted', () =>
    statesThat(scene, hosts.length, ({ networks, held }) => held && networks >= wanted),
  );
  const served = nowMs() - startedAt;
  const after = await countersOf(etcd);
  return {
    allKnowS: rounded(known / 1000),
    knowsS: spread((await agents.states()).map(({ knowsMs = 0 }) => knowsMs / 1000)),
    allKernelsS: rounded(served / 1000),
    agentsCpuS: rounded(((await agents.cpuMs()) - cpu) / 1000),
    etcdCpuS: rounded((after.cpuMs - before.cpuMs) / 1000),
    sentMb: Math.round((after.sentBytes - before.sentBytes) / 1e6),
    requests: after.requests - before.requests,
    etcdPeakMb: Math.round(peak.peakMb),
    slowRequests: await slowRequests(etcd),
  };
}

export async function memory({ agents, hosts }: Scene) {
  await sleep(5_000);
  const each = await agents.memory();
  const sum = (key: 'heapUsed' | 'arrayBuffers') =>
    each.reduce((total, usage) => total + usage[key], 0) / 1e6;
  const resident = await Promise.all(agents.pids.map(residentMb));
  return {
    processes: each.length,
    residentMbPerAgent: rounded(resident.reduce((a, b) => a + b, 0) / hosts.length),
    heapMbPerAgent: rounded(sum('heapUsed') / hosts.length),
    columnsMbPerAgent: rounded(sum('arrayBuffers') / hosts.length),
  };
}

/** Nothing happens. */
export async function idle({ agents, etcd, hosts }: Scene) {
  const [before, cpu] = [await countersOf(etcd), await agents.cpuMs()];
  await sleep(IDLE_MS);
  const after = await countersOf(etcd);
  const seconds = (after.atMs - before.atMs) / 1000;
  return {
    requestsPerS: ratesBetween(before, after),
    sentBytesPerS: Math.round((after.sentBytes - before.sentBytes) / seconds),
    etcdCpuPercent: rounded((after.cpuMs - before.cpuMs) / seconds / 10),
    agentCpuPercent: rounded(((await agents.cpuMs()) - cpu) / seconds / 10 / hosts.length),
    watchers: after.watchers,
    streams: after.streams,
    etcdMb: Math.round(await residentMb(etcd.members[0]?.pid ?? 0)),
  };
}

let changed = 0;

/** One endpoint more, in a network and on a host that are next in turn. Answers how to recognise it, and when. */
async function change({ cluster, store, hosts }: Scene) {
  const n = changed++;
  const { networks } = cluster;
  const at = n % networks.length;
  const address = `10.0.0.${100 + Math.floor(n / networks.length)}` as IpAddress;
  const record = cluster.endpoint(networks[at] ?? ('' as never), address, at % cluster.size.hosts);
  const sentAt = nowMs();
  const result = await transact(store, { conditions: [], writes: cluster.writesOf(record) });
  if (!result.committed) throw new Error('a change was refused');
  cluster.add(record);
  const listeners = hosts.length - (hosts.includes(at % cluster.size.hosts) ? 1 : 0);
  return {
    listeners,
    id: record.id,
    mac: record.target_veth_mac,
    sentAt,
    committedAt: nowMs(),
    revision: result.revision,
  };
}

/** From before the transaction is sent until the last of all agents has it in its mirror. */
export async function changes(scene: Scene) {
  const { agents, etcd, hosts } = scene;
  const [before, cpu] = [await countersOf(etcd), await agents.cpuMs()];
  const [first, all]: [number[], number[]] = [[], []];
  const commits: number[] = [];
  for (const _ of times(CHANGES)) {
    const { id, mac, sentAt, committedAt, listeners } = await change(scene);
    await sleep(CHANGE_EVERY_MS);
    await wait('all have heard', async () => (await agents.heard(id, mac)).heard.length >= listeners);
    const { heard } = await agents.heard(id, mac);
    first.push(percentile(heard, 0.5) - sentAt);
    all.push(Math.max(...heard) - sentAt);
    commits.push(committedAt - sentAt);
  }
  const after = await countersOf(etcd);
  return {
    commitMs: spread(commits),
    halfOfAllAgentsMs: spread(first),
    allAgentsMs: spread(all),
    agentCpuMsPerChange: rounded(((await agents.cpuMs()) - cpu) / CHANGES / hosts.length),
    etcdCpuMsPerChange: rounded((after.cpuMs - before.cpuMs) / CHANGES),
  };
}

/** As many as go in, and how long until all have heard of the last. */
export async function rate(scene: Scene) {
  const { agents, etcd, hosts } = scene;
  const [before, cpu, startedAt] = [await countersOf(etcd), await agents.cpuMs(), nowMs()];
  let revision = 0;
  let left = BURST;
  const writer = async () => {
    while (left-- > 0) revision = Math.max(revision, (await change(scene)).revision);
  };
  await Promise.all(times(IN_FLIGHT).map(writer));
  const committed = nowMs() - startedAt;
  await wait('all are current', () => statesThat(scene, hosts.length, state => state.revision >= revision));
  const heard = nowMs() - startedAt;
  const after = await countersOf(etcd);
  return {
    changes: BURST,
    committedPerS: rounded((BURST / committed) * 1000),
    heardByAllPerS: rounded((BURST / heard) * 1000),
    behindS: rounded((heard - committed) / 1000),
    agentCpuMsPerChange: rounded(((await agents.cpuMs()) - cpu) / BURST / hosts.length),
    etcdCpuMsPerChange: rounded((after.cpuMs - before.cpuMs) / BURST),
  };
}

/** etcd is killed and started: until all agents have what was written right after. */
export async function restart(scene: Scene) {
  const { agents, etcd, hosts } = scene;
  await etcd.kill();
  await sleep(2_000);
  const startedAt = nowMs();
  await etcd.restart();
  const servesAt = nowMs();
  await using peak = new PeakWatch(etcd);
  const written = [];
  for (const _ of times(20)) written.push(await change(scene));
  const revision = Math.max(...written.map(each => each.revision));
  await wait('all are current', () => statesThat(scene, hosts.length, state => state.revision >= revision));
  const currentAt = nowMs();
  let missed = 0;
  for (const { id, mac, listeners } of written) {
    if ((await agents.heard(id, mac)).heard.length < listeners) missed += 1;
  }
  const cpu = (await countersOf(etcd)).cpuMs;
  return {
    servesAgainS: rounded((servesAt - startedAt) / 1000),
    allCurrentAfterS: rounded((currentAt - servesAt) / 1000),
    changesThatSomebodyMissed: missed,
    etcdCpuS: rounded(cpu / 1000),
    etcdPeakMb: Math.round(peak.peakMb),
  };
}

/** All agents are cut off, etcd forgets what they missed, and all of them read everything again at once. */
export async function compaction(scene: Scene) {
  const { agents, etcd, hosts } = scene;
  agents.signal('SIGSTOP');
  let revision: number;
  try {
    await etcd.kill();
    await etcd.restart();
    await change(scene);
    ({ revision } = await change(scene));
    await etcd.ctl('compact', String(revision));
  } finally {
    agents.signal('SIGCONT');
  }
  const goneAt = nowMs();
  await using peak = new PeakWatch(etcd);
  await wait('all are current', () => statesThat(scene, hosts.length, state => state.revision >= revision));
  const currentAt = nowMs();
  const after = await countersOf(etcd);
  const resident = await Promise.all(agents.pids.map(residentMb));
  return {
    allCurrentAfterS: rounded((currentAt - goneAt) / 1000),
    sentMb: Math.round(after.sentBytes / 1e6),
    etcdCpuS: rounded(after.cpuMs / 1000),
    etcdPeakMb: Math.round(peak.peakMb),
    slowRequests: await slowRequests(etcd),
    residentMbPerAgent: rounded(resident.reduce((a, b) => a + b, 0) / hosts.length),
  };
}

/** Whether each host's kernel has exactly the neighbours that etcd's records say. */
export async function kernelsAreRight({ agents, cluster }: Scene) {
  await sleep(5_000);
  const wanted = cluster.wanted();
  const wrong = (await agents.sums()).filter(({ host, count, sum }) => {
    const expected = wanted.get(host as never);
    return expected?.count !== count || expected.sum !== sum;
  });
  return { hosts: wanted.size, wrong: wrong.length };
}
