/** Leases of the store's client, on the line that all its calls and streams share. */
import { StoreClient } from '../../store/client.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { until } from '../support/until.js';

let etcd: EtcdCluster;
let store: StoreClient;

beforeAll(async () => {
  etcd = await startEtcd();
  store = new StoreClient({ hosts: etcd.hosts });
});
afterAll(async () => {
  await store[Symbol.asyncDispose]();
  await etcd.stop();
});

/** How etcd says that the streams of renewals ended, with how many of each: its own metrics. */
async function endsOfRenewals(): Promise<ReadonlyMap<string, number>> {
  const text = await (await fetch(`${etcd.hosts[0]}/metrics`)).text();
  const line = /^grpc_server_handled_total\{grpc_code="(\w+)",grpc_method="LeaseKeepAlive".* (\d+)$/gm;
  const all = [...text.matchAll(line)].map(([, code = '', count]): [string, number] => [code, Number(count)]);
  return new Map(all.filter(([, count]) => count > 0));
}

describe('keepLease()', () => {
  // etcd3 closes the line under every stream and call, the watch among them, when one of its streams has an error.
  it('ends its stream in an orderly way, so that the line under the watch stays', async () => {
    const lease = await store.grantLease(30);
    for (let round = 0; round < 3; round++) expect(await store.keepLease(lease)).toBe(true);
    await until(async () => (await endsOfRenewals()).get('OK') === 3, { what: 'three streams have ended' });
    expect(await endsOfRenewals()).toEqual(new Map([['OK', 3]]));
  });

  it('answers false for a lease that has ended', async () => {
    const lease = await store.grantLease(30);
    await store.revokeLease(lease);
    expect(await store.keepLease(lease)).toBe(false);
  });
});
