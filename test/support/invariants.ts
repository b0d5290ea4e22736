/**
 * The promises as one question: what is wrong? Answers in words, from etcdctl and iproute2 alone, so that a test of any
 * fault ends with the same line: `await untilSound(cluster)`.
 */
import type { EtcdCluster } from './etcd.js';
import { type CheckedHost, kernelViolations } from './invariants-kernel.js';
import { storeViolations } from './invariants-store.js';
import { Truth } from './invariants-truth.js';
import { until } from './until.js';

export type { CheckedHost } from './invariants-kernel.js';

export interface CheckedCluster {
  readonly etcd: EtcdCluster;
  /** Such as `/sc-net`. */
  readonly prefix: string;
  /** Those with agents of ours. */
  readonly hosts: readonly CheckedHost[];
  /** How long an address may be reserved without an endpoint, or Docker's endpoint without an interface; default 90 s. */
  readonly reservationMs?: number;
}

/** Everything that is wrong now, a line each; changes under way are wrong, too. */
export async function violations(cluster: CheckedCluster): Promise<string[]> {
  const { etcd, prefix, hosts, reservationMs = 90_000 } = cluster;
  const truth = await Truth.read(etcd, prefix);
  const names = hosts.map(({ name }) => name);
  const kernels = await Promise.all(hosts.map(host => kernelViolations(truth, host, reservationMs)));
  return [...storeViolations(truth, { reservationMs, hosts: names }), ...kernels.flat()];
}

/** Waits until nothing is wrong. @throws {Error} with what is, at the deadline. */
export async function untilSound(
  cluster: CheckedCluster,
  { timeoutMs = 10_000, what = 'nothing is wrong' } = {},
): Promise<void> {
  let found: readonly string[] = [];
  const sound = async () => {
    found = await violations(cluster);
    return found.length === 0;
  };
  await until(sound, { timeoutMs, what, everyMs: 100 }).catch(error => {
    throw new Error(`${what}, but after ${timeoutMs} ms:\n${found.join('\n')}`, { cause: error });
  });
}

/** A host that is a network namespace of this machine. */
export const namespaceHost = (
  name: string,
  { netns, vtep, netnsPath }: { readonly netns: string; readonly vtep: string; readonly netnsPath: string },
): CheckedHost => ({ name, vtep, netnsPath, enter: ['nsenter', `--net=${netns}`, '--'] });
