/** What etcd itself counts of its clients: requests, bytes and watchers, read from its /metrics. */
import type { BenchLab } from './lab.js';

export interface EtcdLoad {
  /** Messages that clients sent: a request, or one on a stream. */
  readonly requests: number;
  /** The same by gRPC's method. */
  readonly byMethod: ReadonlyMap<string, number>;
  readonly receivedBytes: number;
  readonly sentBytes: number;
}

const REQUESTS = 'grpc_server_msg_received_total';

export async function etcdLoad(lab: BenchLab): Promise<EtcdLoad> {
  const text = await metrics(lab);
  return {
    requests: sum(text, REQUESTS),
    byMethod: methodsOf(text),
    receivedBytes: sum(text, 'etcd_network_client_grpc_received_bytes_total'),
    sentBytes: sum(text, 'etcd_network_client_grpc_sent_bytes_total'),
  };
}

export const loadBetween = (before: EtcdLoad, after: EtcdLoad): EtcdLoad => ({
  requests: after.requests - before.requests,
  byMethod: new Map(
    [...after.byMethod].map(([name, count]) => [name, count - (before.byMethod.get(name) ?? 0)]),
  ),
  receivedBytes: after.receivedBytes - before.receivedBytes,
  sentBytes: after.sentBytes - before.sentBytes,
});

/** Watches that etcd keeps for its clients now. */
export const watchers = async (lab: BenchLab) => sum(await metrics(lab), 'etcd_debugging_mvcc_watcher_total');

async function metrics({ etcd }: BenchLab): Promise<string> {
  const [url] = etcd.hosts;
  return (await fetch(`${url}/metrics`)).text();
}

/** Two services have a method named Watch; only etcd's is called. */
function methodsOf(text: string): Map<string, number> {
  const methods = new Map<string, number>();
  for (const line of text.split('\n').filter(each => each.startsWith(`${REQUESTS}{`))) {
    const [, name = ''] = /grpc_method="(\w+)"/.exec(line) ?? [];
    methods.set(name, (methods.get(name) ?? 0) + Number(line.slice(line.lastIndexOf(' ') + 1)));
  }
  return methods;
}

/** Of a counter, all labels together; Prometheus' text format. */
function sum(text: string, name: string): number {
  const lines = text.split('\n').filter(line => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  if (lines.length === 0) throw new Error(`etcd does not count ${name}`);
  return lines.reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}
