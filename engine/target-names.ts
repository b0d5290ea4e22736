/**
 * What interfaces are called in the namespaces that we were given. One that cannot have the name of its record gets another,
 * and the record follows a moment later: an agent that is killed in between leaves a name that is not so.
 */
import type { Logger } from '../model/log.js';
import type { NetworkId } from '../model/scalars.js';
import { someAtOnce } from '../model/some-at-once.js';
import { CALLS_AT_ONCE, type Kernel } from '../overlay/kernel.js';
import type { Endpoints } from './endpoints.js';
import { type HostSettings, netnsOf } from './host.js';
import type { Mirror } from './mirror.js';
import { portOf } from './wanted.js';

export interface TargetNamesDependencies {
  readonly kernel: Kernel;
  readonly mirror: Mirror;
  readonly endpoints: Pick<Endpoints, 'renamed'>;
  readonly host: HostSettings;
  readonly log: Logger;
}

export class TargetNames {
  readonly #deps: TargetNamesDependencies;

  constructor(deps: TargetNamesDependencies) {
    this.#deps = deps;
  }

  /** Makes records say what their interfaces are called. @throws KernelError. UnavailableError. */
  async settle(): Promise<void> {
    const ids = new Set(this.#deps.mirror.localEndpoints().map(({ network_id }) => network_id));
    await someAtOnce(ids, CALLS_AT_ONCE, id => this.#settleIn(id));
  }

  async #settleIn(id: NetworkId): Promise<void> {
    const { kernel, mirror, host, endpoints, log } = this.#deps;
    // Those of Docker are called what Docker calls them.
    const records = mirror.localEndpoints(id).filter(({ active, docker }) => active && !docker);
    if (records.length === 0) return;
    const names = await kernel.namesOfTargets(netnsOf(host, id), records.map(portOf));
    for (const [i, { id: endpoint_id, target_veth_name: recorded }] of records.entries()) {
      const name = names[i];
      if (name === undefined || name === recorded) continue;
      await endpoints.renamed(endpoint_id, name);
      log.warn('record of an endpoint follows the name of its interface', { endpoint_id, recorded, name });
    }
  }
}
