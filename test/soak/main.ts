/**
 * `make soak`: MINUTES (default 30) of users, faults and traffic in a cluster of three, and beside it SEEDS (default
 * 1,000) random schedules; then CHURN (default 10) minutes of endpoints that come and go. FAULT=kernel: only faults whose
 * name has that in it. Ends with a table; exit status 1 when a promise was broken.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Churned, churn } from './churn.js';
import { SoakCluster } from './cluster.js';
import { FAULTS, type Fault, LONG_OUTAGE } from './faults.js';
import { Traffic } from './traffic.js';
import { Users } from './users.js';

const minutes = Number(process.env['MINUTES'] || 30);
const seeds = Number(process.env['SEEDS'] ?? 1_000);
const churnMinutes = Number(process.env['CHURN'] ?? 10);
const isAsked = ({ name }: Fault) => name.includes(process.env['FAULT'] ?? '');
const faults = FAULTS.filter(isAsked);
if (faults.length === 0) throw new Error(`FAULT=${process.env['FAULT']} is in the name of no fault`);
const QUOTA_MB = 2_048; // etcd's own default
const SOUND_WITHIN_MS = 30_000; // to be reported, not to be hoped for
const LONG_OUTAGE_FROM_MINUTES = 20;

interface Outcome {
  times: number;
  /** Until nothing was wrong, after the fault was over and everybody still. */
  slowestMs: number;
  broken: string[];
}

const log = (text: string) => console.log(`${new Date().toISOString().slice(11, 19)} ${text}`);

function startSchedules(): ChildProcess | undefined {
  if (seeds === 0) return undefined;
  const jest = fileURLToPath(new URL('../../../node_modules/jest/bin/jest.js', import.meta.url));
  const argv = [
    '--experimental-vm-modules',
    '--disable-warning=ExperimentalWarning',
    jest,
    '--runInBand',
    'dist/test/faults/schedules.test.js',
  ];
  const child = spawn(process.execPath, argv, {
    env: { SEED: String(Date.now() % 1_000_000_000), ...process.env, SEEDS: String(seeds) },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  process.once('exit', () => child.kill('SIGINT'));
  // A signal that nobody hears ends a process without its exit.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  return child;
}

/** One fault among the users, then quiet, then the question. */
async function round(
  cluster: SoakCluster,
  users: Users,
  { fault, busy }: { fault: Fault; busy: string },
): Promise<number> {
  users.start();
  await sleep(500 + Math.random() * 2_000);
  await fault.inflict(cluster, busy).catch(error => log(`${fault.name} could not be done: ${error.message}`));
  await sleep(500 + Math.random() * 1_000);
  await users.stop();
  return cluster.untilSound(SOUND_WITHIN_MS);
}

function note(outcomes: Map<string, Outcome>, name: string, ms: number, broken?: string): void {
  const record = outcomes.get(name) ?? { times: 0, slowestMs: 0, broken: [] };
  record.times += 1;
  record.slowestMs = Math.max(record.slowestMs, ms);
  if (broken !== undefined) record.broken.push(broken);
  outcomes.set(name, record);
}

async function soak(cluster: SoakCluster, users: Users, busy: string): Promise<Map<string, Outcome>> {
  const outcomes = new Map<string, Outcome>();
  const end = Date.now() + minutes * 60_000;
  const longFrom =
    minutes >= LONG_OUTAGE_FROM_MINUTES && isAsked(LONG_OUTAGE)
      ? Date.now() + (minutes * 60_000) / 3
      : Number.POSITIVE_INFINITY;
  let longDone = false;
  for (let turn = 0; Date.now() < end; turn++) {
    const isLong: boolean = !longDone && Date.now() > longFrom;
    longDone ||= isLong;
    const fault = isLong ? LONG_OUTAGE : (faults[turn % faults.length] as Fault);
    log(fault.name);
    try {
      const ms = await round(cluster, users, { fault, busy });
      log(`sound after ${ms.toFixed(0)} ms`);
      note(outcomes, fault.name, ms);
    } catch (error) {
      log(`broken: ${(error as Error).message}`);
      note(outcomes, fault.name, SOUND_WITHIN_MS, (error as Error).message);
    }
  }
  return outcomes;
}

const schedules = startSchedules();
const schedulesEnd = schedules ? once(schedules, 'exit') : Promise.resolve([0]);
// Compacted as our embedded etcd is.
const etcdFlags = { 'auto-compaction-mode': 'revision', 'auto-compaction-retention': '1000' };
await using cluster = await SoakCluster.open({ flags: etcdFlags });
const steady = await cluster.network('steady', '10.1.0.0/24');
const busy = await cluster.network('busy', '10.2.0.0/24');
await using traffic = await Traffic.start(cluster, steady);
const users = new Users(cluster, busy);
const residentBefore = await Promise.all(cluster.hosts.map(host => host.residentMegabytes()));
const outcomes = await soak(cluster, users, busy);
const packets = await traffic.end();
const residentAfter = await Promise.all(cluster.hosts.map(host => host.residentMegabytes()));
let churned: Churned | undefined;
const [schedulesStatus] = await schedulesEnd;
if (churnMinutes > 0) {
  log(`churn for ${churnMinutes} minutes`);
  const churning = await cluster.network('churn', '10.4.0.0/20');
  churned = await churn(cluster, churning, { minutes: churnMinutes, quotaMb: QUOTA_MB });
  await cluster.hosts[0]?.api('DELETE', `/networks/${churning}?force=true`);
}
await users.clear();
for (const host of cluster.hosts.slice(0, 1)) {
  await host.api('DELETE', `/networks/${busy}?force=true`);
}
for (const host of cluster.hosts) {
  const { text } = await host.api('GET', `/endpoints?network_id=${steady}&hostname=${host.name}`);
  for (const { id } of JSON.parse(text).endpoints) await host.api('DELETE', `/endpoints/${id}`);
}
await cluster.hosts[0]?.api('DELETE', `/networks/${steady}`);
const left = await cluster.untilEmpty();

const broken = [...[...outcomes.values()].flatMap(record => record.broken), ...(churned?.broken ?? [])];
const { created, deleted, refused, duplicates } = users.tally;
console.log('\nfault                                        times  slowest until sound  broken');
for (const [name, { times, slowestMs, broken: wrong }] of outcomes) {
  console.log(
    `${name.padEnd(44)} ${String(times).padStart(5)} ${`${slowestMs.toFixed(0)} ms`.padStart(20)} ${String(wrong.length).padStart(7)}`,
  );
}
console.log(`
operations   ${created} endpoints created, ${deleted} deleted, ${refused} refused or unanswered
packets      ${packets.sent} sent, ${packets.lost} lost
duplicates   ${duplicates}
leaked       ${left.length} keys left after everything was deleted ${left.slice(0, 5).join(' ')}
resident     ${residentBefore.join(', ')} MB before, ${residentAfter.join(', ')} MB after
schedules    ${seeds} seeds, ${schedulesStatus === 0 ? 'all held' : 'BROKEN'}`);
if (churned) {
  const { operations, perSecond, refused, residentMb, databaseMb } = churned;
  const resident = residentMb.map(hosts => hosts.join('/')).join(', ');
  console.log(`churn        ${operations} operations, ${perSecond.toFixed(0)} a second, ${refused} refused
resident     ${resident} MB (after each tenth of the time, of each agent, without garbage)
database     ${databaseMb.join(', ')} MB, of ${QUOTA_MB}
             ${churned.broken.join('; ') || 'flat'}`);
}
const failed = broken.length + duplicates + packets.lost + left.length > 0 || schedulesStatus !== 0;
process.exitCode = failed ? 1 : 0;
