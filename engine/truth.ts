/** All of the truth at one revision, sorted by network: what `verify` and `gc` look at. Pure but for reading it. */
import { Pool } from '../ipam/pool.js';
import {
  AddressOwner,
  BindingRecord,
  Claim,
  EndpointRecord,
  NetworkAttributes,
  NetworkRecord,
  PoolRecord,
  SpareRecord,
} from '../model/records.js';
import type { HostName, IpAddress, NetworkId } from '../model/scalars.js';
import { unhurried } from '../model/unhurried.js';
import type { KeyValue, StoreClient } from '../store/client.js';
import { readPages } from '../store/follow.js';
import { type KeyParts, partsOf } from '../store/key-parts.js';
import type { Keys } from '../store/keys.js';
import { parseRecord } from '../store/table.js';

/** A value that was understood, and where it stands. */
export interface Stored<T> {
  readonly key: string;
  readonly value: T;
  readonly createRevision: number;
  readonly modRevision: number;
}

export interface NetworkTruth {
  readonly id: NetworkId;
  record: Stored<NetworkRecord> | undefined;
  pool: Stored<Pool> | undefined;
  readonly endpoints: Stored<EndpointRecord>[];
  readonly owners: Map<IpAddress, Stored<AddressOwner>>;
  readonly spares: Map<HostName, Stored<readonly IpAddress[]>>;
  readonly bindings: Stored<BindingRecord>[];
  /** Keys whose value was not understood: what they say of addresses is not known. */
  readonly broken: string[];
}

export interface BrokenValue {
  readonly key: string;
  readonly networkId: NetworkId | undefined;
  readonly text: string;
}

export interface Truth {
  readonly revision: number;
  readonly networks: ReadonlyMap<NetworkId, NetworkTruth>;
  /** Endpoints once more, as each host lists its own. */
  readonly nodeEndpoints: readonly Stored<EndpointRecord>[];
  readonly claims: readonly Stored<NetworkId>[];
  readonly broken: readonly BrokenValue[];
}

/** At one revision. @throws UnavailableError. */
export const readTruth = (store: StoreClient, keys: Keys): Promise<Truth> =>
  readFrom(store, keys, [`${keys.prefix}/`]);

/** The same of some networks, without what each host lists of its own and the claims. @throws UnavailableError. */
export const readTruthOf = (store: StoreClient, keys: Keys, ids: Iterable<NetworkId>): Promise<Truth> =>
  readFrom(
    store,
    keys,
    [...ids].flatMap(id => keys.ofNetwork(id)),
  );

async function readFrom(store: StoreClient, keys: Keys, prefixes: readonly string[]): Promise<Truth> {
  const sorter = new TruthSorter(keys);
  let revision = 0;
  for (const prefix of prefixes) {
    const cuts = keys.cuts.filter(cut => cut.startsWith(prefix));
    for await (const page of readPages(store, { prefix, revision, cuts })) {
      await unhurried(page.entries, entry => sorter.add(entry));
      ({ revision } = page);
    }
  }
  return sorter.truth(revision);
}

/** What was read, key by key. */
export class TruthSorter {
  readonly networks = new Map<NetworkId, NetworkTruth>();
  readonly nodeEndpoints: Stored<EndpointRecord>[] = [];
  readonly claims: Stored<NetworkId>[] = [];
  readonly broken: BrokenValue[] = [];

  readonly #keys: Keys;

  constructor(keys: Keys) {
    this.#keys = keys;
  }

  truth(revision: number): Truth {
    const { networks, nodeEndpoints, claims, broken } = this;
    return { networks, nodeEndpoints, claims, broken, revision };
  }

  add(entry: KeyValue): void {
    const parts = partsOf(this.#keys, entry.key);
    try {
      this.#put(parts, entry);
    } catch (error) {
      const networkId = 'network' in parts ? parts.network : undefined;
      if (networkId) this.#at(networkId).broken.push(entry.key);
      this.broken.push({ key: entry.key, networkId, text: (error as Error).message });
    }
  }

  #put(parts: KeyParts, entry: KeyValue): void {
    switch (parts.family) {
      case 'network':
        this.#at(parts.network).record = stored(
          entry,
          parseRecord(NetworkRecord, entry, { id: parts.network }),
        );
        break;
      case 'attributes':
        parseRecord(NetworkAttributes, entry);
        break;
      case 'pool':
        this.#at(parts.network).pool = stored(
          entry,
          Pool.fromRecord(parseRecord(PoolRecord, entry, { id: parts.network })),
        );
        break;
      case 'endpoint':
      case 'node-endpoint':
        this.#putEndpoint(parts, entry);
        break;
      case 'binding':
        this.#at(parts.network).bindings.push(stored(entry, parseRecord(BindingRecord, entry)));
        break;
      case 'owner':
        this.#at(parts.network).owners.set(parts.address, stored(entry, parseRecord(AddressOwner, entry)));
        break;
      case 'spare':
        this.#at(parts.network).spares.set(
          parts.host,
          stored(entry, parseRecord(SpareRecord, entry).addresses),
        );
        break;
      case 'claim':
        this.claims.push(stored(entry, parseRecord(Claim, entry).network_id));
        break;
      case 'misnamed':
        throw new TypeError(`No agent names a key ${entry.key}; delete it`);
    }
  }

  #putEndpoint(parts: Extract<KeyParts, { endpoint: unknown }>, entry: KeyValue): void {
    const id = parts.endpoint;
    if (parts.family === 'node-endpoint') {
      const record = parseRecord(EndpointRecord, entry, { id, hostname: parts.host });
      this.nodeEndpoints.push(stored(entry, record));
    } else {
      const record = parseRecord(EndpointRecord, entry, { id, network_id: parts.network });
      this.#at(parts.network).endpoints.push(stored(entry, record));
    }
  }

  #at(id: NetworkId): NetworkTruth {
    let network = this.networks.get(id);
    if (!network) {
      const [endpoints, bindings, broken] = [[], [], []];
      const [owners, spares] = [new Map(), new Map()];
      network = { id, record: undefined, pool: undefined, endpoints, owners, spares, bindings, broken };
      this.networks.set(id, network);
    }
    return network;
  }
}

function stored<T>({ key, createRevision, modRevision }: KeyValue, value: T): Stored<T> {
  return { key, value, createRevision, modRevision };
}
