/** What an operation asks of etcd, with nothing around it: the same conditions, keys and sizes of values. */
import { randomUUID } from 'node:crypto';
import { newNetworkId, type Vni } from '../model/scalars.js';
import type { StoreClient } from '../store/client.js';
import { type Condition, keyOf, transact, type Write } from '../store/transaction.js';
import { KEYS } from './lab.js';
import { addressesOf, endpointRecord, endpointWrites, networkWrites, ownerWrite, seed } from './seed.js';

const RANGE = '10.0.0.0/24';
const HOST = 'bare';

const randomVni = () => (500_000 + Math.floor(Math.random() * 499_999)) as Vni;

/** Of an endpoint: its interface is put out of use meanwhile. */
export const BARE_REMOVAL = 'bare transaction, beside which the kernel works';

export interface BareEndpoint {
  /** Of another endpoint each time. */
  make(): Promise<void>;
  /** Of the one that was made last. */
  remove(): Promise<void>;
}

/** An endpoint's creation and removal. `docker`: with what belongs to Docker's. */
export async function openBareEndpoint(
  store: StoreClient,
  purpose: 'netns' | 'docker',
): Promise<BareEndpoint> {
  const { id, writes } = networkWrites({ name: `bare-${newNetworkId()}`, vni: randomVni() });
  await seed(store, writes);
  const pool = writes.find(write => 'put' in write && write.put === KEYS.pool(id));
  const addresses = addressesOf(RANGE, 250);
  if (!pool) throw new Error('A network has a pool');
  let poolRevision = (await transact(store, { conditions: [], writes: [pool] })).revision;
  let made: readonly Write[] = [];
  let count = 0;
  const send = async (writes: readonly Write[]) => {
    const conditions: Condition[] = [
      { exists: KEYS.network(id) },
      { unchanged: KEYS.pool(id), revision: poolRevision },
      { exists: KEYS.network(id) },
      { empty: `/etcd-lock/ipalloc-lock/${id}/` },
    ];
    const result = await transact(store, { conditions, writes: [...writes, pool] });
    if (!result.committed) throw new Error('The bare transaction was refused');
    poolRevision = result.revision;
  };
  return {
    async make() {
      const address = addresses[count++ % addresses.length] ?? addresses[0];
      if (!address) return;
      const place = { networkId: id, address, prefixLength: 24 };
      const record = endpointRecord({ ...place, hostname: HOST, vtep: '10.79.0.9' });
      made = [ownerWrite(record), ...(purpose === 'docker' ? dockerWrites(record) : endpointWrites(record))];
      await send(made);
    },
    remove: () => send(made.map(write => ({ delete: keyOf(write) }))),
  };
}

function dockerWrites(record: ReturnType<typeof endpointRecord>): Write[] {
  const dockerId = randomUUID().replaceAll('-', '').repeat(2);
  const docker = { endpoint_id: dockerId, network_id: dockerId, address_source: 'sand-driver' as const };
  const value = {
    DockerNetworkID: dockerId,
    SandNetworkID: record.network_id,
    DockerEndpointID: dockerId,
    SandEndpointID: record.id,
  };
  return [...endpointWrites({ ...record, docker }), { put: KEYS.dockerEndpoint(dockerId), value }];
}

/** The creation of a network: record, attributes, pool, VNI and name, each new. Answers what removes it. */
export async function bareNetwork(store: StoreClient): Promise<() => Promise<unknown>> {
  const { id, writes } = networkWrites({ name: `bare-${newNetworkId()}`, vni: randomVni() });
  const conditions: Condition[] = [
    { absent: KEYS.network(id) },
    { absent: KEYS.pool(id) },
    { empty: '/etcd-lock/vni-idgen/' },
  ];
  // Beside those of the cluster, which agents follow.
  const moved = writes.map(write => ('put' in write ? { ...write, put: `/bare${write.put}` } : write));
  await transact(store, { conditions, writes: moved });
  const removal = moved.map(write => ({ delete: keyOf(write) }));
  return () => transact(store, { conditions: [{ absent: KEYS.network(id) }], writes: removal });
}
