/** A network that Docker made goes with its last binding and endpoint, also when a promise expired by itself. */
import { describeError, UnavailableError } from '../model/errors.js';
import { type Logger, rateLimited } from '../model/log.js';
import type { HostName, NetworkId } from '../model/scalars.js';
import type { Mirror } from './mirror.js';
import type { Networks } from './networks.js';

export interface UnusedNetworksDependencies {
  readonly mirror: Mirror;
  readonly networks: Networks;
  readonly host: HostName;
  readonly log: Logger;
}

export class UnusedNetworks {
  readonly #deps: UnusedNetworksDependencies;
  readonly #log: Logger;
  /** Networks that lost their last user while etcd was away. */
  readonly #waiting = new Set<NetworkId>();

  constructor(deps: UnusedNetworksDependencies) {
    this.#deps = deps;
    this.#log = rateLimited(deps.log);
    deps.mirror.onEvent(event => {
      const unbound = event.kind === 'binding-gone' && event.hostname === deps.host;
      if (unbound || (event.kind === 'local' && this.#isUnused(event.networkId)))
        this.#remove(event.networkId);
    });
  }

  /** All that nobody uses, at the start. */
  async removeAll(signal: AbortSignal): Promise<void> {
    const { networks } = this.#deps;
    for (const { record } of networks.list()) {
      if (!signal.aborted && this.#isUnused(record.id))
        await networks.removeUnused(record.id).catch(() => undefined);
    }
  }

  /** Those that etcd could not be asked about. */
  tryAgain(): void {
    for (const id of this.#waiting) this.#remove(id);
  }

  #isUnused(id: NetworkId): boolean {
    const { mirror } = this.#deps;
    return mirror.peers(id).size + mirror.bindings(id).length === 0;
  }

  #remove(id: NetworkId): void {
    this.#waiting.delete(id);
    this.#deps.networks.removeUnused(id).catch(error => {
      if (error instanceof UnavailableError) this.#waiting.add(id);
      this.#log.warn('unused network not removed', { network_id: id, err: describeError(error) });
    });
  }
}
