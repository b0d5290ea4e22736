/** GET /status: this host at a glance. Answers while etcd is away, too. */
import type { Engine } from '../engine/engine.js';
import { statusOf } from '../engine/status.js';
import { answer } from './answer.js';
import type { Handler } from './routes.js';
import type { StatusJson } from './schemas.js';

export const statusRoute =
  (engine: Engine, version: string): Handler =>
  async (_request, response) => {
    const { lastReconcileAt, repairs, pendingTeardowns, ...status } = await statusOf(engine);
    const json: StatusJson = {
      version,
      hostname: status.hostname,
      identity: status.identity,
      name: {
        state: status.claim.state,
        reason: status.claim.state === 'refused' ? status.claim.reason.message : null,
      },
      hosts: {
        living: status.livingHosts,
        others: status.otherHosts.map(({ hostname, state, goneSince }) => ({
          hostname,
          state,
          gone_since: goneSince?.toISOString() ?? null,
        })),
      },
      draining_since: status.drainingSince ?? null,
      vtep: status.vtep,
      underlay: status.underlay && { interface: status.underlay.ifName, mtu: status.underlay.mtu },
      started_at: status.startedAt.toISOString(),
      etcd: status.etcd,
      networks: status.networks,
      local: {
        networks: status.localNetworks,
        endpoints: status.localEndpoints,
        active_endpoints: status.activeEndpoints,
      },
      reconcile: {
        last_at: lastReconcileAt?.toISOString() ?? null,
        repairs,
        pending_teardowns: pendingTeardowns,
      },
    };
    answer(response, { status: json });
  };
