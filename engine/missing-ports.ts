/** Interfaces that should be there and are gone: made again where we had placed them; where Docker did, it alone can. */
import { describeError } from '../model/errors.js';
import { type Logger, rateLimited } from '../model/log.js';
import type { EndpointId, IfName } from '../model/scalars.js';
import type { Kernel } from '../overlay/kernel.js';
import type { WantedNetwork, WantedPort } from '../overlay/types.js';
import type { Mirror } from './mirror.js';

export interface Restored {
  readonly repairs: number;
  /** Those that are gone still. */
  readonly missing: readonly EndpointId[];
}

/** Told of an interface that has another name than its endpoint's record says. */
export type Renamed = (id: EndpointId, ifName: IfName) => Promise<void>;

export class MissingPorts {
  readonly #kernel: Kernel;
  readonly #mirror: Mirror;
  readonly #log: Logger;
  readonly #quietLog: Logger;
  readonly #renamed: Renamed;

  constructor(kernel: Kernel, mirror: Mirror, { log, renamed }: { log: Logger; renamed: Renamed }) {
    this.#renamed = renamed;
    this.#kernel = kernel;
    this.#mirror = mirror;
    this.#log = log;
    this.#quietLog = rateLimited(log);
  }

  async restore(wanted: WantedNetwork, gone: readonly WantedPort[]): Promise<Restored> {
    const missing = gone.filter(({ target }) => target.kind === 'host').map(({ endpointId }) => endpointId);
    for (const id of missing) this.#tell(wanted, id);
    const ours = gone.filter(({ target }) => target.kind === 'netns');
    const results = ours.length > 0 ? await this.#kernel.changePorts(wanted, { plug: ours, unplug: [] }) : [];
    let repairs = 0;
    for (const [i, { endpointId, target }] of ours.entries()) {
      const result = results[i];
      const facts = { network_id: wanted.networkId, endpoint_id: endpointId };
      if (result && 'error' in result) {
        missing.push(endpointId);
        const err = describeError(result.error);
        this.#quietLog.warn('interface of an endpoint is missing', { ...facts, err });
        continue;
      }
      repairs += 1;
      if (result && result.ifName !== target.name) await this.#renamed(endpointId, result.ifName);
      this.#log.warn('interface of an endpoint made again', facts);
    }
    return { repairs, missing };
  }

  /** One of Docker's without a sandbox is about to be joined, by the next call. */
  #tell({ networkId }: WantedNetwork, id: EndpointId): void {
    const { target_netns_path = '' } = this.#mirror.localEndpoint(id) ?? {};
    if (target_netns_path === '') return;
    this.#quietLog.warn('interface of an endpoint is missing', { network_id: networkId, endpoint_id: id });
  }
}
