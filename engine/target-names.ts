/**
 * What interfaces are called in the namespaces that we were given. One that cannot have the name of its record gets another,
 * and the record follows a moment later: an agent that is killed in between leaves a name that is not so.
 */
import { describeError } from '../model/errors.js';
import { type Logger, rateLimited } from '../model/log.js';
import type { EndpointId, IfName, NetworkId } from '../model/scalars.js';
import { someAtOnce } from '../model/some-at-once.js';
import { CALLS_AT_ONCE, type Kernel } from '../overlay/kernel.js';
import { isTargetName } from '../overlay/target-name.js';
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
  readonly #quietLog: Logger;
  /** Networks in which a record may not say what its interface is called. */
  readonly #unsure = new Set<NetworkId>();

  constructor(deps: TargetNamesDependencies) {
    this.#deps = deps;
    this.#quietLog = rateLimited(deps.log);
  }

  /** Makes all records of this host say what their interfaces are called: at the start. */
  settleAll(): Promise<void> {
    for (const { network_id: id } of this.#deps.mirror.localEndpoints()) this.#unsure.add(id);
    return this.settle();
  }

  /** Where it failed before. What fails is tried again by the next call. */
  async settle(): Promise<void> {
    await someAtOnce([...this.#unsure], CALLS_AT_ONCE, async id => {
      this.#unsure.delete(id);
      await this.#settleIn(id).catch(error => this.#isUnsure(id, error));
    });
  }

  /** An interface has just been made, and could not have the name of its record. */
  async follow(id: EndpointId, name: IfName): Promise<void> {
    const network = this.#deps.mirror.localEndpoint(id)?.network_id;
    try {
      await this.#deps.endpoints.renamed(id, name);
    } catch (error) {
      if (network !== undefined) this.#isUnsure(network, error);
    }
  }

  async #settleIn(id: NetworkId): Promise<void> {
    const { kernel, mirror, host, endpoints, log } = this.#deps;
    // Those of Docker are called what Docker calls them, also before they are known to be Docker's.
    const records = mirror
      .localEndpoints(id)
      .filter(({ active, docker, target_veth_name: name }) => active && !docker && isTargetName(name));
    if (records.length === 0) return;
    const names = await kernel.namesOfTargets(netnsOf(host, id), records.map(portOf));
    for (const [i, { id: endpoint_id, target_veth_name: recorded }] of records.entries()) {
      const name = names[i];
      if (name === undefined || name === recorded) continue;
      log.warn('record of an endpoint follows the name of its interface', { endpoint_id, recorded, name });
      await endpoints.renamed(endpoint_id, name);
    }
  }

  #isUnsure(id: NetworkId, error: unknown): void {
    this.#unsure.add(id);
    const err = describeError(error);
    this.#quietLog.warn('name of an interface not recorded, trying again', { network_id: id, err });
  }
}
