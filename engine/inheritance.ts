/**
 * Containers that Docker started under an agent of the original. Their endpoints bear ids of their own, where ours
 * follow from Docker's, and nothing in their records says that Docker has them: only `docker-endpoints/` does. Each
 * gets our part of the record, and is an endpoint like any other from then on.
 */
import * as z from 'zod';
import { Pool } from '../ipam/pool.js';
import { describeError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import { type AddressSource, type EndpointRecord, PoolRecord, scalar } from '../model/records.js';
import { addressOf, type EndpointId, parseEndpointId, parseNetworkId } from '../model/scalars.js';
import type { KeyValue, StoreClient } from '../store/client.js';
import { readSnapshot } from '../store/follow.js';
import type { Keys } from '../store/keys.js';
import { parseRecord } from '../store/table.js';
import { readKey, transact, type Write } from '../store/transaction.js';
import type { Mirror } from './mirror.js';
import { followedTo } from './network-creation.js';

export interface InheritanceDependencies {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly mirror: Mirror;
  readonly log: Logger;
}

/** `/docker-endpoints/<id>`, by whichever agent. */
const DockerEndpoint = z.object({
  DockerNetworkID: z.string(),
  DockerEndpointID: z.string(),
  SandNetworkID: scalar(value => parseNetworkId(value, 'SandNetworkID')),
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
    for (const entry of (await readSnapshot(store, keys.dockerEndpoints)).entries) {
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
    const docker = parseRecord(DockerEndpoint, entry);
    const record = await readKey(store, keys.networkEndpoint(docker.SandNetworkID, docker.SandEndpointID));
    if (!record) return this.#dropOrphan(entry);
    await followedTo(mirror, record.modRevision);
    return (await this.#take(docker))?.id;
  }

  async #take({ DockerEndpointID, DockerNetworkID, SandEndpointID }: DockerEndpoint) {
    const { mirror, log } = this.#deps;
    const record = mirror.localEndpoint(SandEndpointID);
    if (!record || record.docker) return record;
    const docker = {
      endpoint_id: DockerEndpointID,
      network_id: DockerNetworkID,
      address_source: await this.#sourceOf(record),
    };
    await this.#mark(record, docker);
    const { id, network_id } = record;
    log.info('endpoint of Docker taken over', { endpoint_id: id, network_id, docker_id: DockerEndpointID });
    return record;
  }

  /** Whatever else stands in the record stays in it, known to us or not. */
  async #mark({ id, network_id, hostname }: EndpointRecord, docker: EndpointRecord['docker']): Promise<void> {
    const { store, keys, mirror } = this.#deps;
    const entry = await readKey(store, keys.networkEndpoint(network_id, id));
    if (!entry) return;
    const value = { ...JSON.parse(entry.value), docker };
    const writes: Write[] = [
      { put: entry.key, value },
      { put: keys.nodeEndpoint(hostname, id), value },
    ];
    const conditions = [{ unchanged: entry.key, revision: entry.modRevision }];
    const result = await transact(store, { conditions, writes });
    if (result.committed) mirror.applyCommit(writes, result.revision);
  }

  /** Under Docker's own IPAM nobody has set the address's bit, and nobody will ask us to clear it. */
  async #sourceOf({ network_id, target_veth_ip }: EndpointRecord): Promise<AddressSource> {
    const { store, keys } = this.#deps;
    const entry = await readKey(store, keys.pool(network_id));
    const pool = entry && Pool.fromRecord(parseRecord(PoolRecord, entry));
    return pool?.isTaken(addressOf(target_veth_ip)) ? 'sand-ipam' : 'docker-ipam';
  }

  /** Of an endpoint that somebody removed without Docker. */
  async #dropOrphan({ key, modRevision }: KeyValue): Promise<undefined> {
    const { store } = this.#deps;
    await transact(store, {
      conditions: [{ unchanged: key, revision: modRevision }],
      writes: [{ delete: key }],
    });
  }
}
