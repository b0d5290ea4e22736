/**
 * Containers that Docker started under an agent of the original. Their endpoints bear ids of their own, where ours
 * follow from Docker's, and nothing in their records says that Docker has them: only `docker-endpoints/` does. Each
 * gets our part of the record, and is an endpoint like any other from then on.
 */
import { z } from 'zod';
import { Pool } from '../ipam/pool.js';
import { describeError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import { type AddressSource, type EndpointRecord, PoolRecord, scalar } from '../model/records.js';
import { addressOf, type EndpointId, parseEndpointId } from '../model/scalars.js';
import type { KeyValue, StoreClient } from '../store/client.js';
import type { Keys } from '../store/keys.js';
import { parseRecord } from '../store/table.js';
import { readKey, readPrefix, transact } from '../store/transaction.js';
import type { Mirror } from './mirror.js';
import { followedTo } from './network-creation.js';

export interface InheritanceDependencies {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly mirror: Mirror;
  readonly log: Logger;
  /** Writes a changed record, if the endpoint still exists. */
  rewrite(record: EndpointRecord): Promise<void>;
}

/** `/docker-endpoints/<id>`, by whichever agent. */
const DockerEndpoint = z.object({
  DockerNetworkID: z.string(),
  DockerEndpointID: z.string(),
  SandEndpointID: scalar(value => parseEndpointId(value, 'SandEndpointID')),
});
type DockerEndpoint = z.infer<typeof DockerEndpoint>;

export class Inheritance {
  readonly #deps: InheritanceDependencies;

  constructor(deps: InheritanceDependencies) {
    this.#deps = deps;
  }

  /** Takes up all of this host. @throws UnavailableError. */
  async takeUp(): Promise<void> {
    const { store, keys, mirror, log } = this.#deps;
    if (mirror.localEndpoints().every(({ docker }) => docker)) return;
    for (const entry of await readPrefix(store, keys.dockerEndpoints)) {
      try {
        await this.#take(parseRecord(DockerEndpoint, entry));
      } catch (error) {
        log.error('endpoint of Docker not taken over', { key: entry.key, err: describeError(error) });
      }
    }
  }

  /** The endpoint of this host that Docker knows by that id, as etcd has it. @throws UnavailableError. */
  async find(dockerEndpointId: string): Promise<EndpointId | undefined> {
    const { store, keys, mirror } = this.#deps;
    const entry = await readKey(store, keys.dockerEndpoint(dockerEndpointId));
    if (!entry) return undefined;
    await followedTo(mirror, entry.modRevision);
    const docker = parseRecord(DockerEndpoint, entry);
    const taken = await this.#take(docker);
    if (!taken && !mirror.peer(docker.SandEndpointID)) await this.#dropOrphan(entry);
    return taken?.id;
  }

  async #take({ DockerEndpointID, DockerNetworkID, SandEndpointID }: DockerEndpoint) {
    const { mirror, rewrite, log } = this.#deps;
    const record = mirror.localEndpoint(SandEndpointID);
    if (!record || record.docker) return record;
    const docker = {
      endpoint_id: DockerEndpointID,
      network_id: DockerNetworkID,
      address_source: await this.#sourceOf(record),
    };
    const taken = { ...record, docker };
    await rewrite(taken);
    const { id, network_id } = record;
    log.info('endpoint of Docker taken over', { endpoint_id: id, network_id, docker_id: DockerEndpointID });
    return taken;
  }

  /** Under Docker's own IPAM nobody has set the address's bit, and nobody will ask us to clear it. */
  async #sourceOf({ network_id, target_veth_ip }: EndpointRecord): Promise<AddressSource> {
    const { store, keys } = this.#deps;
    const entry = await readKey(store, keys.pool(network_id));
    const pool = entry && Pool.fromRecord(parseRecord(PoolRecord, entry));
    return pool?.isTaken(addressOf(target_veth_ip)) ? 'sand-ipam' : 'docker-ipam';
  }

  /** Of an endpoint that somebody removed without Docker. */
  async #dropOrphan({ key, modRevision }: KeyValue): Promise<void> {
    const { store } = this.#deps;
    await transact(store, {
      conditions: [{ unchanged: key, revision: modRevision }],
      writes: [{ delete: key }],
    });
  }
}
