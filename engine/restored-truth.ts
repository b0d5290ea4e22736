/**
 * etcd runs on a backup: what was made since is not in it, and containers run with it all the same. This host's part is
 * written anew from memory, in the usual transactions: what somebody else has meanwhile is lost, and told, and nothing is
 * given twice. The kernel is left alone until then.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Addresses } from '../ipam/addresses.js';
import { ConflictError, describeError, UnavailableError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import {
  type BindingRecord,
  dataPlaneOf,
  type EndpointRecord,
  isPending,
  mtuOf,
  type Network,
} from '../model/records.js';
import { addressOf, type EndpointId, type HostName } from '../model/scalars.js';
import type { Keys } from '../store/keys.js';
import type { Write } from '../store/transaction.js';
import { creationWrites } from './endpoint-record.js';
import type { Mirror } from './mirror.js';
import type { Networks } from './networks.js';

const TRY_AGAIN_MS = 200;
const ATTEMPTS = 50; // the claim to the host's name has to be renewed first
const CONFLICTS = 15;
const OTHERS_WITHIN_MS = 1_000; // other hosts write theirs; until then their neighbour entries stay

type Part = 'network' | 'endpoint' | 'deletion';

export interface RestoredTruthDependencies {
  readonly mirror: Mirror;
  readonly keys: Keys;
  readonly addresses: Addresses;
  readonly networks: Networks;
  readonly host: HostName;
  readonly log: Logger;
  /** Removes an endpoint of this host, with its address. */
  remove(id: EndpointId): Promise<void>;
}

/** This host's part of the truth, as it was before the backup. */
export interface LocalPart {
  readonly networks: readonly Network[];
  readonly bindings: readonly BindingRecord[];
  readonly endpoints: readonly EndpointRecord[];
}

export class RestoredTruth {
  readonly #deps: RestoredTruthDependencies;
  #underWay = 0;
  /** As it was before a backup that the mirror is hearing of. */
  #before: LocalPart | undefined;

  constructor(deps: RestoredTruthDependencies) {
    this.#deps = deps;
  }

  /** While it is, kernel and truth must not be compared. */
  get isUnderWay(): boolean {
    return this.#underWay > 0;
  }

  /** To be called before the mirror hears of the backup; again when it has to begin anew, which changes nothing. */
  remember(): void {
    const { mirror, host } = this.#deps;
    if (this.#before) return;
    const endpoints = mirror.localEndpoints();
    const all = mirror.networks().flatMap(({ record }) => mirror.bindings(record.id));
    const bindings = all.filter(binding => binding.hostname === host && !isPending(binding));
    const ids = new Set([...endpoints, ...bindings].map(({ network_id }) => network_id));
    this.#underWay += 1;
    this.#before = { endpoints, bindings, networks: [...ids].flatMap(id => mirror.network(id) ?? []) };
  }

  /** Once the mirror has heard of all of it; nothing to do when none was remembered. Never throws. */
  async writeAnew(): Promise<void> {
    const before = this.#before;
    if (!before) return;
    this.#before = undefined;
    const { networks, bindings, endpoints } = before;
    const { mirror, log } = this.#deps;
    log.error('etcd runs on a backup or is another cluster: what this host has is written anew');
    try {
      for (const network of networks) {
        if (!mirror.network(network.record.id)) await this.#network(network, bindings);
      }
      await this.#removeAgain(new Set(endpoints.map(({ id }) => id)));
      for (const record of endpoints) {
        if (!mirror.localEndpoint(record.id)) await this.#endpoint(record);
      }
      await sleep(OTHERS_WITHIN_MS);
    } finally {
      this.#underWay -= 1;
    }
  }

  async #network(network: Network, bindings: readonly BindingRecord[]): Promise<void> {
    const { networks, keys } = this.#deps;
    const { id, name, ip_range, gateway, vxlan_vni } = network.record;
    const own = bindings.filter(({ network_id }) => network_id === id);
    const bound = own.flatMap((value): Write[] => {
      const { hostname, docker_network_id } = value;
      const docker = { DockerNetworkID: docker_network_id, SandNetworkID: id };
      return [
        { put: keys.binding(id, hostname, docker_network_id), value },
        { put: keys.dockerNetwork(docker_network_id), value: docker },
      ];
    });
    const wish = {
      id,
      name,
      range: ip_range,
      gateway,
      vni: vxlan_vni,
      mtu: mtuOf(network),
      dataPlane: dataPlaneOf(network),
      also: () => bound,
    };
    const origin = network.attributes?.origin ?? 'api';
    await this.#attempt({ network_id: id }, 'network', () => networks.create({ ...wish, origin }));
  }

  /** What was deleted since. */
  async #removeAgain(known: ReadonlySet<EndpointId>): Promise<void> {
    const { mirror, remove } = this.#deps;
    for (const { id, network_id } of mirror.localEndpoints()) {
      if (!known.has(id)) await this.#attempt({ network_id, endpoint_id: id }, 'deletion', () => remove(id));
    }
  }

  async #endpoint(record: EndpointRecord): Promise<void> {
    const { addresses, keys } = this.#deps;
    const { id, network_id: networkId } = record;
    const address = addressOf(record.target_veth_ip);
    await this.#attempt({ network_id: networkId, endpoint_id: id, address }, 'endpoint', () =>
      addresses.commit({
        networkId,
        op: randomUUID(),
        step: { kind: 'take', address, owner: { kind: 'endpoint', endpoint_id: id } },
        endpoints: 1,
        writes: () => creationWrites(keys, record),
      }),
    );
  }

  async #attempt(facts: object, what: Part, work: () => Promise<unknown>): Promise<void> {
    const { log } = this.#deps;
    for (let attempt = 1; ; attempt++) {
      try {
        await work();
        return log.warn(`${what} written anew`, { ...facts });
      } catch (error) {
        // Another host that has it was first.
        if (error instanceof ConflictError && what === 'network') return;
        // Its bearer in the backup may be about to delete it, as it did before.
        const mayPass = error instanceof UnavailableError || error instanceof ConflictError;
        if (!mayPass || attempt === (error instanceof ConflictError ? CONFLICTS : ATTEMPTS)) {
          return log.error(`${what} is lost with the backup`, { ...facts, err: describeError(error) });
        }
        await sleep(TRY_AGAIN_MS);
      }
    }
  }
}
