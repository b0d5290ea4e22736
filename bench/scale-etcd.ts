/** The simulated cluster's etcd, as it tells of itself and as the machine sees it. */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EtcdCluster } from '../test/support/etcd.js';
import { cpuTimeOf } from './cpu.js';

const WATCH_EVERY_MS = 200;

export interface EtcdCounters {
  readonly atMs: number;
  readonly requests: number;
  readonly byMethod: ReadonlyMap<string, number>;
  readonly sentBytes: number;
  readonly cpuMs: number;
  readonly watchers: number;
  readonly streams: number;
  readonly databaseBytes: number;
}

const pidOf = (etcd: EtcdCluster) => etcd.members[0]?.pid ?? 0;

/** From `/metrics`; requests are those that etcd has answered, streams included. */
export async function countersOf(etcd: EtcdCluster): Promise<EtcdCounters> {
  const text = await (await fetch(`${etcd.hosts[0]}/metrics`)).text();
  const sum = (name: string, having = '') =>
    [...text.matchAll(new RegExp(`^${name}(\\{[^}]*\\})? (\\S+)$`, 'gm'))]
      .filter(([, labels = '']) => labels.includes(having))
      .reduce((total, [, , value]) => total + Number(value), 0);
  const { userMs, systemMs } = await cpuTimeOf(pidOf(etcd));
  const watch = 'grpc_method="Watch"';
  return {
    atMs: performance.now(),
    requests: sum('grpc_server_handled_total'),
    byMethod: handledByMethod(text),
    sentBytes: sum('etcd_network_client_grpc_sent_bytes_total'),
    cpuMs: userMs + systemMs,
    watchers: sum('etcd_debugging_mvcc_watcher_total'),
    streams: sum('grpc_server_started_total', watch) - sum('grpc_server_handled_total', watch),
    databaseBytes: sum('etcd_mvcc_db_total_size_in_bytes'),
  };
}

function handledByMethod(text: string): Map<string, number> {
  const counts = new Map<string, number>();
  const line = /^grpc_server_handled_total\{[^}]*grpc_method="(\w+)"[^}]*\} (\S+)$/gm;
  for (const [, method = '', count] of text.matchAll(line)) {
    counts.set(method, (counts.get(method) ?? 0) + Number(count));
  }
  return counts;
}

/** Requests a second of each kind that there were. */
export const ratesBetween = (before: EtcdCounters, after: EtcdCounters): Record<string, number> =>
  Object.fromEntries(
    [...after.byMethod]
      .map(([method, count]): [string, number] => [method, count - (before.byMethod.get(method) ?? 0)])
      .filter(([, count]) => count > 0)
      .map(([method, count]) => [
        method,
        Number(((count / (after.atMs - before.atMs)) * 1000).toPrecision(3)),
      ]),
  );

export async function residentMb(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return (Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024) / 1e6;
}

/** The most memory that etcd had since this was opened. */
export class PeakWatch implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  peakMb = 0;

  constructor(etcd: EtcdCluster) {
    this.#loop = this.#run(etcd);
  }

  async #run(etcd: EtcdCluster): Promise<void> {
    while (!this.#stop.signal.aborted) {
      this.peakMb = Math.max(this.peakMb, await residentMb(pidOf(etcd)));
      await sleep(WATCH_EVERY_MS, undefined, { signal: this.#stop.signal }).catch(() => undefined);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }
}

/** What etcd's log counts as slow: it names each such request. */
export const slowRequests = async (etcd: EtcdCluster) =>
  ((await etcd.log()).match(/took too long/g) ?? []).length;
