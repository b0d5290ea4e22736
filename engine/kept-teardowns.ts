/** Carries out the teardowns that the journal kept while etcd was away. */
import { describeError } from '../model/errors.js';
import { type Logger, rateLimited } from '../model/log.js';
import type { HostName } from '../model/scalars.js';
import type { StoreClient } from '../store/client.js';
import type { Keys } from '../store/keys.js';
import { readKey } from '../store/transaction.js';
import type { DockerEndpoints } from './docker-endpoints.js';
import type { Endpoints } from './endpoints.js';
import type { Journal, Teardown } from './journal.js';
import type { Mirror } from './mirror.js';
import type { Reservations } from './reservations.js';

export interface KeptTeardownsDependencies {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly mirror: Mirror;
  readonly journal: Journal;
  readonly endpoints: Endpoints;
  readonly dockerEndpoints: DockerEndpoints;
  readonly reservations: Reservations;
  readonly host: HostName;
  readonly log: Logger;
}

export class KeptTeardowns {
  readonly #deps: KeptTeardownsDependencies;
  readonly #log: Logger;
  readonly #unbind = new Set<(dockerNetworkId: string) => Promise<void>>();
  #replaying = false;

  constructor(deps: KeptTeardownsDependencies) {
    this.#deps = deps;
    this.#log = rateLimited(deps.log);
  }

  /** Registers who carries out unbinds. */
  onUnbind(unbind: (dockerNetworkId: string) => Promise<void>): void {
    this.#unbind.add(unbind);
  }

  /** In their order, up to the first that etcd does not answer; never throws. */
  async replay(): Promise<void> {
    const { mirror, journal } = this.#deps;
    if (this.#replaying || mirror.revision === 0 || journal.isEmpty) return;
    this.#replaying = true;
    try {
      await journal.replay(what => this.#carryOut(what));
    } catch (error) {
      this.#log.warn('kept teardown waits for etcd', { err: describeError(error) });
    } finally {
      this.#replaying = false;
    }
  }

  async #carryOut(what: Teardown): Promise<void> {
    const { keys, host, endpoints, dockerEndpoints, reservations } = this.#deps;
    switch (what.kind) {
      case 'endpoint':
        await this.#followed(keys.nodeEndpoint(host, what.endpoint_id));
        return endpoints.remove(what.endpoint_id);
      case 'docker-endpoint':
        return dockerEndpoints.remove(what.docker_endpoint_id);
      case 'address':
        if (what.by_docker) return reservations.returned(what.network_id, what.address, what.at);
        return reservations.release(what.network_id, what.address);
      case 'reservation':
        return reservations.takeBack(what.network_id, what.op);
      case 'binding':
        await this.#followed(keys.dockerNetwork(what.docker_network_id));
        for (const unbind of this.#unbind) await unbind(what.docker_network_id);
    }
  }

  /** What a key's last change came with is in the mirror. */
  async #followed(key: string): Promise<void> {
    const entry = await readKey(this.#deps.store, key);
    if (entry) await this.#deps.mirror.reached(entry.modRevision);
  }
}
