/**
 * Endpoints whose container ended while no agent was there to be told, or with its machine: their interface is gone
 * and so is their namespace. Docker's are removed, with their address, since Docker tells nobody twice; those made for a
 * namespace stay with their address, as their owner's, and are active no more. Looked for after the first
 * compare and at each patrol.
 */
import { describeError, InvalidError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import type { EndpointRecord } from '../model/records.js';
import type { EndpointId, IpAddress, NetnsPath, NetworkId } from '../model/scalars.js';
import type { Kernel } from '../overlay/kernel.js';
import type { Endpoints } from './endpoints.js';
import { type HostSettings, netnsOf } from './host.js';
import type { Mirror } from './mirror.js';

/** Chosen: Docker joins an endpoint right after it made it; one older, without a sandbox, was never joined. */
const JOINED_WITHIN_MS = 60_000;

const isLate = ({ created_at }: EndpointRecord) => Date.now() - Date.parse(created_at) > JOINED_WITHIN_MS;

export interface DepartedDependencies {
  readonly host: HostSettings;
  readonly kernel: Kernel;
  readonly mirror: Mirror;
  readonly endpoints: Endpoints;
  readonly log: Logger;
}

export class Departed {
  readonly #deps: DepartedDependencies;

  constructor(deps: DepartedDependencies) {
    this.#deps = deps;
  }

  /** @param missing endpoints of this host without their interface */
  async settle(missing: readonly EndpointId[]): Promise<void> {
    const { mirror, log } = this.#deps;
    for (const id of [...missing, ...(await this.#stranded())]) {
      const record = mirror.localEndpoint(id);
      if (!record || !(await this.#isOver(record))) continue;
      await this.#end(record).catch(error => {
        log.warn('endpoint of a container that is gone not settled', {
          endpoint_id: id,
          err: describeError(error),
        });
      });
    }
  }

  /**
   * Docker returns an address that one of its endpoints bears: the endpoint was made or deleted by a call without an
   * answer, since Docker asks for neither again. Not when it was made after the return, which is another's, and never
   * when its interface is in a container.
   */
  async addressReturned(networkId: NetworkId, address: IpAddress, atMs: number): Promise<void> {
    const { mirror, endpoints, log } = this.#deps;
    const bearer = mirror.bearerOf(networkId, address);
    const record = bearer && mirror.localEndpoint(bearer.endpointId);
    if (record?.docker?.address_source !== 'sand-ipam' || Date.parse(record.created_at) > atMs) return;
    if (await this.#isInContainer(record)) return;
    const facts = { endpoint_id: record.id, network_id: networkId, address };
    log.warn('endpoint without a container removed, since Docker returns its address', facts);
    await endpoints.remove(record.id);
  }

  async #isInContainer({
    network_id,
    overlay_veth_name,
    target_veth_name,
  }: EndpointRecord): Promise<boolean> {
    const { kernel, host } = this.#deps;
    const ports: readonly string[] = await kernel.listPorts(netnsOf(host, network_id));
    if (!ports.includes(overlay_veth_name)) return false;
    const waiting: readonly string[] = await kernel.listHostLinks();
    return !waiting.includes(target_veth_name);
  }

  /** Docker moves an interface as soon as it is made: one that still waits in the host was given up with its dockerd. */
  async #stranded(): Promise<EndpointId[]> {
    const { kernel, mirror, log } = this.#deps;
    const unplaced = mirror
      .localEndpoints()
      .filter(record => record.docker && record.target_netns_path === '' && isLate(record));
    if (unplaced.length === 0) return [];
    const links: readonly string[] = await kernel.listHostLinks().catch(error => {
      log.warn('interfaces of the host not listed', { err: describeError(error) });
      return [];
    });
    return unplaced.filter(({ target_veth_name: name }) => links.includes(name)).map(({ id }) => id);
  }

  async #isOver(record: EndpointRecord): Promise<boolean> {
    const { target_netns_path: path } = record;
    if (path === '') return isLate(record);
    try {
      await this.#deps.kernel.requireNamespace(path as NetnsPath);
      return false;
    } catch (error) {
      return error instanceof InvalidError;
    }
  }

  async #end(record: EndpointRecord): Promise<void> {
    const { endpoints, log } = this.#deps;
    const { id: endpoint_id, network_id } = record;
    if (record.docker) {
      await endpoints.remove(endpoint_id, { address: 'returned' });
      log.warn('endpoint of a container that is gone removed', { endpoint_id, network_id });
    } else {
      await endpoints.rewrite({ ...record, active: false });
      log.warn('endpoint of a namespace that is gone deactivated', { endpoint_id, network_id });
    }
  }
}
