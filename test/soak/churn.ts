/** Endpoints that come and go without a pause: what must stay flat is the memory of agents and the database of etcd. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestNetns } from '../support/netns.js';
import type { SoakCluster } from './cluster.js';
import type { SoakHost } from './host.js';

const PER_SECOND = 300; // operations on all hosts together: a creation, a deletion
const WORKERS = 24; // as many on each host
const SAMPLES = 10;
const GROWTH_MAX_MB = 25; // chosen: pages that the heap keeps for later

export interface Churned {
  readonly operations: number;
  readonly perSecond: number;
  readonly refused: number;
  /** Of each host after each tenth of the time, without garbage. */
  readonly residentMb: readonly (readonly number[])[];
  /** Of the largest member of etcd, likewise. */
  readonly databaseMb: readonly number[];
  readonly broken: readonly string[];
}

interface Count {
  operations: number;
  refused: number;
}

/** @param quotaMb of etcd's database. */
export async function churn(
  cluster: SoakCluster,
  network: string,
  { minutes, quotaMb }: { readonly minutes: number; readonly quotaMb: number },
): Promise<Churned> {
  const end = Date.now() + minutes * 60_000;
  const count: Count = { operations: 0, refused: 0 };
  const began = performance.now();
  const workers = Array.from({ length: WORKERS }, async (_, i) => {
    const host = cluster.hosts[i % cluster.hosts.length] as SoakHost;
    await comeAndGo(host, { network, netns: await cluster.netns(), end, count });
  });
  // The last samples are taken when all of them are done.
  const seconds = Promise.all(workers).then(() => (performance.now() - began) / 1_000);
  const residentMb: number[][] = [];
  const databaseMb: number[] = [];
  for (let sample = 0; sample < SAMPLES; sample++) {
    await sleep((minutes * 60_000) / SAMPLES);
    residentMb.push(await Promise.all(cluster.hosts.map(host => host.residentMegabytes())));
    databaseMb.push(await databaseSize(cluster));
  }
  const perSecond = count.operations / (await seconds);
  const broken = [...growth(cluster.hosts, residentMb)];
  if (count.refused > 0) broken.push(`${count.refused} operations refused or unanswered`);
  const largest = Math.max(...databaseMb);
  if (largest > quotaMb) broken.push(`etcd's database has ${largest} MB, more than its quota of ${quotaMb}`);
  return { ...count, perSecond, residentMb, databaseMb, broken };
}

/** One at a time, at a steady pace: who was kept waiting for an answer makes up for it. */
async function comeAndGo(
  host: SoakHost,
  plan: { readonly network: string; readonly netns: TestNetns; readonly end: number; readonly count: Count },
): Promise<void> {
  const { network, netns, end, count } = plan;
  const everyMs = (1_000 * WORKERS) / PER_SECOND;
  const wish = { network_id: network, activate: true, activate_params: { ns_handle_path: netns.path } };
  let next = Date.now() + Math.random() * everyMs;
  const ask = async (method: 'POST' | 'DELETE', path: string, body?: object) => {
    await turn();
    return host.api(method, path, body).catch(() => ({ status: 0, text: '' }));
  };
  const turn = async () => {
    await sleep(Math.max(0, next - Date.now()));
    next += everyMs;
    count.operations += 1;
  };
  while (Date.now() < end) {
    const made = await ask('POST', '/endpoints', wish);
    if (made.status !== 201) {
      count.refused += 1;
      continue;
    }
    const { status } = await ask('DELETE', `/endpoints/${JSON.parse(made.text).endpoint.id}`);
    if (status !== 204) count.refused += 1;
  }
}

/** From the third tenth on: what is compiled and cached in the first ones stays. */
function* growth(hosts: readonly SoakHost[], samples: readonly (readonly number[])[]): Iterable<string> {
  for (const [i, { name }] of hosts.entries()) {
    const [first = 0, last = 0] = [samples[2]?.[i], samples.at(-1)?.[i]];
    if (last - first > GROWTH_MAX_MB) yield `the agent of ${name} grew from ${first} to ${last} MB`;
  }
}

async function databaseSize({ etcd }: SoakCluster): Promise<number> {
  const members: { Status: { dbSize: number } }[] = JSON.parse(
    await etcd.ctl('endpoint', 'status', '-w', 'json'),
  );
  return Math.round(Math.max(...members.map(({ Status }) => Status.dbSize)) / 2 ** 20);
}
