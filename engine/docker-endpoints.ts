/** The endpoints of this host that Docker asks for, by Docker's ids. */
import { describeError, NotFoundError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import { dataPlaneOf, type EndpointRecord } from '../model/records.js';
import type { EndpointId, IfName, NetnsPath, NetworkId } from '../model/scalars.js';
import type { StoreClient } from '../store/client.js';
import type { Keys } from '../store/keys.js';
import type { EndpointWish } from './endpoint-record.js';
import type { Endpoints } from './endpoints.js';
import { endpointIdOf } from './host.js';
import { Inheritance } from './inheritance.js';
import type { Journal } from './journal.js';
import { MadeAhead } from './made-ahead.js';
import type { Mirror } from './mirror.js';
import type { Reconciler } from './reconcile.js';
import { portOf } from './wanted.js';

export interface DockerEndpointsDependencies {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly mirror: Mirror;
  readonly endpoints: Endpoints;
  readonly reconciler: Reconciler;
  readonly journal: Journal;
  readonly log: Logger;
}

export class DockerEndpoints {
  readonly #deps: DockerEndpointsDependencies;
  readonly #inheritance: Inheritance;
  readonly #ahead: MadeAhead;

  constructor(deps: DockerEndpointsDependencies) {
    this.#deps = deps;
    this.#inheritance = new Inheritance(deps);
    this.#ahead = new MadeAhead(deps.log);
  }

  /** As `Endpoints.create`; its interface is begun where it can be, for the join that follows. @throws as there */
  async create(wish: EndpointWish): Promise<EndpointRecord> {
    const { mirror, endpoints } = this.#deps;
    // Of a repeated call the interface may be in its container already.
    const isNew = mirror.localEndpoint(wish.id) === undefined;
    const plugFollows = isNew && this.#isMadeAhead(wish.networkId);
    const record = await endpoints.create(wish, { plugFollows });
    if (plugFollows) this.#ahead.begin(record.id, endpoints.plug(record));
    return record;
  }

  /** With a macvlan its container's namespace gets the number by which it is found there: the join has to say which. */
  #isMadeAhead(id: NetworkId): boolean {
    const network = this.#deps.mirror.network(id);
    return network !== undefined && dataPlaneOf(network) !== 'macvlan';
  }

  /**
   * Answers the interface of an endpoint, for Docker to move: the kernel's work alone, since the record has said since
   * its creation that there is to be one.
   * @throws NotFoundError, ConflictError: the underlay is too small. KernelError.
   */
  async join(dockerEndpointId: string, sandbox: NetnsPath): Promise<IfName> {
    const { mirror, endpoints, log } = this.#deps;
    const id = await this.#idOf(dockerEndpointId);
    const found = id && mirror.localEndpoint(id);
    if (!found) {
      throw new NotFoundError(`Endpoint ${dockerEndpointId} does not exist on this host`, {
        docker_endpoint_id: dockerEndpointId,
      });
    }
    // Made by the original, which says so at the join only.
    if (!found.active) await endpoints.rewrite({ ...found, active: true });
    const made = await this.#ahead.take(id);
    const ifName = made ?? (await endpoints.plug({ ...found, target_netns_path: sandbox }));
    endpoints.placed(id, sandbox);
    log.info('endpoint joined', { endpoint_id: id, network_id: found.network_id, sandbox });
    return ifName;
  }

  /** The container has left; its endpoint goes with the call that follows. */
  async leave(dockerEndpointId: string): Promise<void> {
    const { mirror, reconciler, log } = this.#deps;
    const id = await this.#idOf(dockerEndpointId).catch(error => {
      log.debug('endpoint not known without etcd', {
        docker_id: dockerEndpointId,
        err: describeError(error),
      });
    });
    const record = id && mirror.localEndpoint(id);
    if (record) reconciler.ports.leave(record.id, portOf(record).overlayVeth);
  }

  /** Removes an endpoint of this host. Unknown ones are gone already. Answered while etcd is away, too. */
  async remove(dockerEndpointId: string): Promise<void> {
    const { mirror, journal, reconciler, endpoints } = this.#deps;
    const known = this.#knownIdOf(dockerEndpointId);
    if (known) return endpoints.remove(known);
    const kept = { kind: 'docker-endpoint', docker_endpoint_id: dockerEndpointId } as const;
    // Without a first snapshot nobody can say that it does not exist.
    if (mirror.revision === 0) return journal.add(kept);
    await journal.orKeep(kept, async () => {
      const id = await this.#inheritance.find(dockerEndpointId);
      if (id) await endpoints.remove(id);
      else reconciler.ports.left(endpointIdOf(dockerEndpointId));
    });
  }

  /** Our id of Docker's endpoint, from etcd where an agent of the original made it. @throws UnavailableError. */
  async #idOf(dockerEndpointId: string): Promise<EndpointId | undefined> {
    const known = this.#knownIdOf(dockerEndpointId);
    return known || !this.#deps.store.answering ? known : this.#inheritance.find(dockerEndpointId);
  }

  /** It follows from Docker's, unless an agent of the original made the endpoint. */
  #knownIdOf(dockerEndpointId: string): EndpointId | undefined {
    const { mirror } = this.#deps;
    const id = endpointIdOf(dockerEndpointId);
    if (mirror.localEndpoint(id)) return id;
    return mirror.localEndpoints().find(({ docker }) => docker?.endpoint_id === dockerEndpointId)?.id;
  }

  /** Takes over what Docker started under an agent of the original. @throws UnavailableError. */
  inherit = (): Promise<void> => this.#inheritance.takeUp();
}
