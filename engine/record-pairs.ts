/**
 * An endpoint's record stands twice, for its network and for its host. One of this host that has lost its first half
 * while its interface carries a container is restored from the second, if the address is still its own; the second
 * follows from the first.
 */
import { describeError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import { AddressOwner, EndpointRecord } from '../model/records.js';
import { addressOf, type EndpointId } from '../model/scalars.js';
import type { Kernel } from '../overlay/kernel.js';
import type { StoreClient } from '../store/client.js';
import { readKeyNames } from '../store/follow.js';
import type { Keys } from '../store/keys.js';
import { findRecord } from '../store/table.js';
import { type Condition, readKey, transact } from '../store/transaction.js';
import type { HostSettings } from './host.js';
import type { Mirror } from './mirror.js';
import { OwnPorts } from './own-ports.js';
import { portOf } from './wanted.js';

export interface RecordPairsDependencies {
  readonly store: StoreClient;
  readonly keys: Keys;
  readonly kernel: Kernel;
  readonly mirror: Mirror;
  readonly host: HostSettings;
  readonly log: Logger;
}

export class RecordPairs {
  readonly #deps: RecordPairsDependencies;

  constructor(deps: RecordPairsDependencies) {
    this.#deps = deps;
  }

  /** Tells what was mended, a line each. @throws UnavailableError. */
  async mend(): Promise<string[]> {
    const { store, keys, mirror, host, log } = this.#deps;
    const prefix = keys.nodeEndpoints(host.name);
    const listed = new Set(await readKeyNames(store, prefix));
    const ports = await OwnPorts.look(this.#deps);
    const done: string[] = [];
    for (const key of listed) {
      if (mirror.localEndpoint(key.slice(prefix.length) as EndpointId)) continue;
      const text = await this.#restore(key, ports).catch(error => {
        log.warn('record of an endpoint not restored', { key, err: describeError(error) });
      });
      if (text) done.push(text);
    }
    for (const record of mirror.localEndpoints()) {
      if (!listed.has(keys.nodeEndpoint(host.name, record.id))) done.push(...(await this.#list(record)));
    }
    return done;
  }

  async #restore(key: string, ports: OwnPorts): Promise<string | undefined> {
    const { store, keys, mirror, host, log } = this.#deps;
    const entry = await readKey(store, key);
    const record = entry && findRecord(EndpointRecord, entry);
    if (!record || key !== keys.nodeEndpoint(host.name, record.id)) return undefined;
    const { id, network_id, hostname } = record;
    const { present } = await ports.of(network_id);
    if (hostname !== host.name || !present.has(portOf(record).overlayVeth)) return undefined;
    const address = addressOf(record.target_veth_ip);
    const owner = await readKey(store, keys.addressOwner(network_id, address));
    if (!owner || findRecord(AddressOwner, owner)?.endpoint_id !== id) return undefined;
    const conditions: Condition[] = [
      { exists: keys.network(network_id) },
      { absent: keys.networkEndpoint(network_id, id) },
      { unchanged: owner.key, revision: owner.modRevision },
      { unchanged: entry.key, revision: entry.modRevision },
    ];
    const writes = [{ put: keys.networkEndpoint(network_id, id), value: JSON.parse(entry.value) }];
    const result = await transact(store, { conditions, writes });
    if (!result.committed) return undefined;
    mirror.applyCommit(writes, result.revision);
    log.warn('lost record of a running endpoint restored', { endpoint_id: id, network_id, address });
    return `record of endpoint ${id} restored: its interface is in use with ${address}`;
  }

  async #list(record: EndpointRecord): Promise<string[]> {
    const { store, keys, log } = this.#deps;
    const { id, network_id, hostname } = record;
    const entry = await readKey(store, keys.networkEndpoint(network_id, id));
    if (!entry) return [];
    const key = keys.nodeEndpoint(hostname, id);
    const conditions: Condition[] = [{ unchanged: entry.key, revision: entry.modRevision }, { absent: key }];
    const writes = [{ put: key, value: JSON.parse(entry.value) }];
    if (!(await transact(store, { conditions, writes })).committed) return [];
    log.warn('endpoint listed for its host again', { endpoint_id: id, network_id });
    return [`endpoint ${id} listed for host ${hostname} again`];
  }
}
