/**
 * `make bench-scale`: a whole cluster on one machine. Agents, clients, followers, mirrors and etcd are the real ones;
 * the kernel alone is replaced, by a thread that counts (scale-thread.ts). HOSTS, NETWORKS and ENDPOINTS give the size,
 * AGENTS how many of the hosts are more than records (all),
 * PROCESSES how many processes share the agents; PHASES picks some of what is done. One JSON object on standard output, progress beside it.
 */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StoreClient } from '../store/client.js';
import { startEtcd } from '../test/support/etcd.js';
import { protect } from '../test/support/guardian.js';
import { sweep } from '../test/support/sweep.js';
import { times } from './row.js';
import { Cluster } from './scale-cluster.js';
import { countersOf, residentMb } from './scale-etcd.js';
import {
  changes,
  compaction,
  firstAgent,
  idle,
  kernelsAreRight,
  memory,
  powerCut,
  rate,
  restart,
  type Scene,
} from './scale-phases.js';
import { AgentProcesses } from './scale-processes.js';

const setting = (name: string, otherwise: number) => Number(process.env[name] || otherwise);
const size = {
  hosts: setting('HOSTS', 200),
  networks: setting('NETWORKS', 10_000),
  endpoints: setting('ENDPOINTS', 100_000),
};
const startedAt = performance.now();
const say = (text: string) => {
  process.stderr.write(`${((performance.now() - startedAt) / 1000).toFixed(1).padStart(7)} s  ${text}\n`);
};

async function seeded(scene: Pick<Scene, 'etcd' | 'store' | 'cluster'>) {
  const { etcd, store, cluster } = scene;
  say(`writing ${size.networks} networks and ${size.endpoints} endpoints`);
  const empty = await countersOf(etcd);
  await cluster.seed(store, say);
  const { databaseBytes, cpuMs } = await countersOf(etcd);
  const revision = (await store.range({ key: Buffer.from('/'), count_only: true })).header.revision;
  await etcd.ctl('compact', revision);
  await etcd.ctl('defrag');
  const mb = (bytes: number) => Number((bytes / 1e6).toFixed(1));
  return {
    databaseMb: mb(databaseBytes),
    defragmentedMb: mb((await countersOf(etcd)).databaseBytes),
    bytesPerEndpoint: Math.round((databaseBytes - empty.databaseBytes) / size.endpoints),
    etcdMb: Math.round(await residentMb(etcd.members[0]?.pid ?? 0)),
    etcdCpuS: Number(((cpuMs - empty.cpuMs) / 1000).toFixed(1)),
  };
}

async function main(): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), `sandscale-${process.pid}-`));
  const { release } = await protect({ directories: [root] });
  const etcd = await startEtcd();
  const store = new StoreClient({ hosts: etcd.socketHosts });
  (await store.openWatch()).on('error', () => undefined); // etcd ends a connection that is kept alive without a stream
  const figures: Record<string, unknown> = { size };
  const agents = new AgentProcesses(
    setting('PROCESSES', Math.min(8, size.hosts)),
    etcd.socketHosts.join(','),
    root,
  );
  try {
    const scene: Scene = {
      etcd,
      store,
      agents,
      cluster: new Cluster(size),
      hosts: times(setting('AGENTS', size.hosts)),
      say,
    };
    figures['seeded'] = await seeded(scene);
    const phases = {
      firstAgent,
      powerCut,
      memory,
      idle,
      changes,
      rate,
      restart,
      compaction,
      kernelsAreRight,
    };
    const chosen = (process.env['PHASES'] ?? '').split(',').filter(name => name !== '');
    for (const [name, phase] of Object.entries(phases)) {
      if (chosen.length > 0 && !chosen.includes(name)) continue;
      say(name);
      figures[name] = await phase(scene);
      say(`  ${JSON.stringify(figures[name])}`);
      const problems = [...(await agents.problems())].sort(([, a], [, b]) => b - a).slice(0, 8);
      for (const [line, count] of problems) say(`  ${count} × ${line}`);
    }
  } finally {
    process.stdout.write(`${JSON.stringify(figures, undefined, 1)}\n`);
    await agents[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await etcd.stop();
    await sweep({ directories: [root] });
    release();
  }
}

await main();
process.exit();
