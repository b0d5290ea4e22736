/** This host at a glance: what the mirror, the journal and the reconcile say, and what carries the underlay. */
import type { HostName, IpAddress } from '../model/scalars.js';
import type { Underlay } from '../overlay/types.js';
import type { Engine } from './engine.js';
import type { ClaimState } from './host-claim.js';
import type { Host } from './hosts.js';

export interface EngineStatus {
  readonly hostname: HostName;
  readonly vtep: IpAddress;
  /** Null when no interface of the host has the VTEP address. */
  readonly underlay: Underlay | null;
  readonly startedAt: Date;
  readonly etcd: { readonly where: string; readonly answering: boolean; readonly revision: number };
  /** In the cluster, as far as the mirror knows. */
  readonly networks: number;
  readonly localNetworks: number;
  readonly localEndpoints: number;
  readonly activeEndpoints: number;
  readonly lastReconcileAt: Date | undefined;
  readonly repairs: number;
  readonly pendingTeardowns: number;
  readonly identity: string;
  /** Whether this agent has its host name. */
  readonly claim: ClaimState;
  readonly livingHosts: number;
  /** Gone, or declared gone. */
  readonly otherHosts: readonly Host[];
  readonly drainingSince: string | undefined;
}

export async function statusOf(engine: Engine): Promise<EngineStatus> {
  const { mirror, reconciler, journal, startedAt } = engine;
  const { store, kernel, host } = engine.options;
  const hosts = engine.hosts.list();
  const local = mirror.localEndpoints();
  return {
    hostname: host.name,
    vtep: host.vtep,
    underlay: await kernel.underlay(host.vtep).catch(() => null),
    startedAt,
    etcd: { where: store.where, answering: store.answering, revision: mirror.revision },
    networks: mirror.networks().length,
    localNetworks: new Set(local.map(({ network_id }) => network_id)).size,
    localEndpoints: local.length,
    activeEndpoints: local.filter(({ active }) => active).length,
    lastReconcileAt: reconciler.book.lastAt,
    repairs: reconciler.book.count,
    pendingTeardowns: journal.entries().length,
    identity: engine.options.identity.id,
    claim: engine.claim.state,
    livingHosts: hosts.filter(({ state }) => state === 'living').length,
    otherHosts: hosts.filter(({ state }) => state === 'gone' || state === 'removed'),
    drainingSince: mirror.hosts.record(host.name)?.draining_since,
  };
}
