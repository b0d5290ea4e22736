import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StoreClient, type StoreTls } from '../../store/client.js';
import { CertificateAuthority, writePem } from '../support/certificate-authority.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { Follower } from '../support/follower.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

let directory: string;
let authority: CertificateAuthority;
let foreign: CertificateAuthority;
let etcd: EtcdCluster;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sand-tls-etcd-'));
  authority = await CertificateAuthority.create();
  foreign = await CertificateAuthority.create();
  etcd = await startEtcd({ tls: await serverFiles(authority) });
});
afterAll(async () => {
  await etcd.stop();
  rmSync(directory, { recursive: true, force: true });
});

const serverFiles = async (by: CertificateAuthority) =>
  writePem(directory, 'etcd', { ca: by.ca, ...(await by.issue({ name: 'etcd' })) });
const clientOf = async (by: CertificateAuthority, livesMs?: number): Promise<StoreTls> => ({
  ca: by.ca,
  ...(await by.issue({ name: 'agent', ...(livesMs === undefined ? {} : { livesMs }) })),
});

const put = (store: StoreClient, key: string) =>
  store.txn({ success: [{ request_put: { key: Buffer.from(key), value: Buffer.from('v') } }] });
const outcome = (work: Promise<unknown>) =>
  work.then(
    () => 'served',
    (error: Error) => error.message,
  );

describe('StoreClient and an etcd that wants client certificates', () => {
  it('is served with one of its CA', async () => {
    await using store = new StoreClient({ hosts: etcd.hosts, tls: await clientOf(authority) });
    await put(store, '/plain');
    expect(await etcd.get('/plain')).toBe('v');
  });

  it.each<[string, () => Promise<StoreTls>]>([
    ['no certificate', async () => ({ ca: authority.ca })],
    ["a foreign CA's certificate", async () => ({ ...(await clientOf(foreign)), ca: authority.ca })],
    ['an expired certificate', () => clientOf(authority, -60_000)],
    ['a CA that is not the server’s', async () => ({ ...(await clientOf(authority)), ca: foreign.ca })],
    ['the CAs that Node knows', async () => ({})],
  ])('with %s is told what to check, and no key', async (_what, tls) => {
    const given = await tls();
    await using store = new StoreClient({ hosts: etcd.hosts, tls: given });
    const said = await outcome(put(store, '/refused'));
    expect(said).toMatch(/check etcd, and ETCD_CACERT, ETCD_TLS_CERT and ETCD_TLS_KEY$/);
    expect(said).not.toContain('PRIVATE KEY');
    expect(await etcd.get('/refused')).toBeUndefined();
  });
});

describe('renew()', () => {
  it('gives new calls the new certificate when the old one has expired, and the watch misses nothing', async () => {
    await using proxy = await TcpProxy.open(etcd.hosts[0] ?? '');
    const hosts = [proxy.url.replace('http:', 'https:')];
    const lives = 2_500;
    const began = Date.now();
    await using store = new StoreClient({ hosts, tls: await clientOf(authority, lives) });
    await using follower = new Follower(store, '/expires/');
    await until(() => follower.line, { timeoutMs: lives });
    await until(() => Date.now() - began > lives + 1_000, { what: 'the certificate has expired' });
    await put(store, '/expires/same-connection');
    proxy.blink();
    expect(await outcome(put(store, '/expires/lost'))).toContain('ETCD_CACERT');
    await etcd.ctl('put', '/expires/meanwhile', 'v');
    expect(follower.values.has('/expires/meanwhile')).toBe(false);

    await store.renew(await clientOf(authority));
    await put(store, '/expires/after');
    await until(() => follower.values.has('/expires/after'));
    expect([...follower.values.keys()].sort()).toEqual(await etcd.keys('/expires/'));
    expect([follower.disorder, follower.snapshots.length]).toEqual([[], 1]);
  }, 30_000);

  it('fails no call and loses no event while others are under way', async () => {
    await using store = new StoreClient({ hosts: etcd.hosts, tls: await clientOf(authority) });
    await using follower = new Follower(store, '/busy/');
    await until(() => follower.line);
    let writing = true;
    const writers = [0, 1, 2, 3].map(async writer => {
      let n = 0;
      for (; writing; n += 1) await put(store, `/busy/${writer}-${n % 50}`);
      return n;
    });
    for (let round = 0; round < 4; round += 1) {
      const seen = follower.changes.length;
      await store.renew(await clientOf(authority));
      await until(() => follower.changes.length > seen + 20, { what: 'changes come again' });
    }
    writing = false;
    const written = (await Promise.all(writers)).reduce((sum, n) => sum + n);
    await until(() => follower.changes.length >= written, { what: 'every write has come' });
    expect(new Set(follower.changes).size).toBe(written);
    expect([follower.changes.length, follower.disorder, follower.snapshots.length]).toEqual([written, [], 1]);
  });

  it('closes the connections of before', async () => {
    await using proxy = await TcpProxy.open(etcd.hosts[0] ?? '');
    const hosts = [proxy.url.replace('http:', 'https:')];
    await using store = new StoreClient({ hosts, tls: await clientOf(authority) });
    await using follower = new Follower(store, '/closed/');
    await until(() => follower.line);
    for (let round = 0; round < 5; round += 1) await store.renew(await clientOf(authority));
    await put(store, '/closed/after');
    await until(() => follower.values.has('/closed/after'));
    await until(() => proxy.lines === 1, { timeoutMs: 15_000, what: 'one connection is left' });
  }, 30_000);

  it('keeps what works when etcd does not take the new certificate', async () => {
    await using store = new StoreClient({ hosts: etcd.hosts, tls: await clientOf(authority) });
    await put(store, '/kept/before');
    const strange = { ...(await clientOf(foreign)), ca: authority.ca };
    await expect(store.renew(strange)).rejects.toMatchObject({ kind: 'unavailable' });
    await put(store, '/kept/after');
    expect(await etcd.keys('/kept/')).toEqual(['/kept/after', '/kept/before']);
  });

  it('takes another CA when etcd has one, from either side first', async () => {
    await using moving = await startEtcd({ tls: await serverFiles(authority) });
    await using store = new StoreClient({ hosts: moving.hosts, tls: await clientOf(authority) });
    await using follower = new Follower(store, '/moved/');
    await put(store, '/moved/before');
    await serverFiles(foreign);
    await moving.restart();
    expect(await outcome(put(store, '/moved/lost'))).toContain('ETCD_CACERT');
    await store.renew(await clientOf(foreign));
    await put(store, '/moved/after');
    await until(() => follower.values.size === 2, { what: 'the follower is there again' });
    expect(follower.disorder).toEqual([]);

    await moving.kill();
    await serverFiles(authority);
    await store.renew(await clientOf(authority));
    await moving.restart();
    await put(store, '/moved/back');
    await until(() => follower.values.has('/moved/back'));
  }, 60_000);
});
