import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StoreClient } from '../../store/client.js';
import { type EtcdCluster, type EtcdOptions, startEtcd } from '../support/etcd.js';
import { Follower } from '../support/follower.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

const AGENT = { username: 'agent', password: 'agents-secret' };
const ROOT = ['--user', 'root:roots-secret'] as const;
const PREFIX = '/sc-net/';

/** etcd with a root, and a user of ours that may use the prefix. */
async function startGuarded(options: EtcdOptions = {}): Promise<EtcdCluster> {
  const etcd = await startEtcd(options);
  await etcd.ctl('user', 'add', 'root:roots-secret');
  await etcd.ctl('user', 'grant-role', 'root', 'root').catch(() => undefined);
  await etcd.ctl('role', 'add', 'sand');
  await etcd.ctl('role', 'grant-permission', 'sand', '--prefix=true', 'readwrite', PREFIX);
  await etcd.ctl('user', 'add', `${AGENT.username}:${AGENT.password}`);
  await etcd.ctl('user', 'grant-role', AGENT.username, 'sand');
  await etcd.ctl('auth', 'enable');
  return etcd;
}

const put = (store: StoreClient, key: string) =>
  store.txn({
    success: [{ request_put: { key: Buffer.from(`${PREFIX}${key}`), value: Buffer.from('v') } }],
  });
/** Somebody else's change: the client under test makes no call for it. */
const putElsewhere = (etcd: EtcdCluster, key: string) => etcd.ctl(...ROOT, 'put', `${PREFIX}${key}`, 'v');
const sees = (follower: Follower, key: string) =>
  until(() => follower.values.has(`${PREFIX}${key}`), { timeoutMs: 5_000, what: `the follower sees ${key}` });

describe('StoreClient and an etcd with users', () => {
  let etcd: EtcdCluster;
  beforeAll(async () => {
    etcd = await startGuarded();
  });
  afterAll(() => etcd.stop());

  it('is served as a user of the prefix', async () => {
    await using store = new StoreClient({ hosts: etcd.hosts, auth: AGENT });
    await put(store, 'one');
    expect(await etcd.ctl(...ROOT, 'get', `${PREFIX}one`)).toBe(`${PREFIX}one\nv\n`);
  });

  it.each([
    ['a wrong password', { ...AGENT, password: 'a-wrong-secret' }],
    ['an unknown user', { ...AGENT, username: 'nobody' }],
    ['no user', undefined],
  ])('with %s is told what to check, and no password', async (_what, auth) => {
    await using store = new StoreClient({ hosts: etcd.hosts, auth });
    const refusal = put(store, 'two');
    await expect(refusal).rejects.toThrow(/check ETCD_USERNAME and ETCD_PASSWORD$/);
    await expect(refusal).rejects.not.toThrow(/secret/);
  });

  it('is told when its user may not use the prefix', async () => {
    await etcd.ctl(...ROOT, 'user', 'add', 'guest:guests-secret');
    await using store = new StoreClient({
      hosts: etcd.hosts,
      auth: { username: 'guest', password: 'guests-secret' },
    });
    await expect(put(store, 'three')).rejects.toThrow(/permission denied.*; grant its user/);
  });

  it('goes on, calls and watch, when etcd has forgotten its tokens', async () => {
    await using store = new StoreClient({ hosts: etcd.hosts, auth: AGENT });
    await using follower = new Follower(store, PREFIX);
    await until(() => follower.line);
    await etcd.restart();
    await putElsewhere(etcd, 'after-restart');
    await sees(follower, 'after-restart');
    await put(store, 'and-a-call');
    await sees(follower, 'and-a-call');
    expect([follower.disorder, follower.snapshots.length]).toEqual([[], 1]);
  });
});

describe('StoreClient and an etcd with JSON web tokens', () => {
  const TTL_MS = 2_000;
  let directory: string;
  let etcd: EtcdCluster;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'sand-jwt-'));
    const keys = generateKeyPairSync('rsa', {
      modulusLength: 2_048,
      privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
      publicKeyEncoding: { type: 'spki', format: 'pem' },
    });
    const [pub, priv] = [join(directory, 'public.pem'), join(directory, 'private.pem')];
    writeFileSync(pub, keys.publicKey);
    writeFileSync(priv, keys.privateKey, { mode: 0o600 });
    const token = `jwt,pub-key=${pub},priv-key=${priv},sign-method=RS256,ttl=${TTL_MS / 1_000}s`;
    etcd = await startGuarded({ flags: { 'auth-token': token } });
  });
  afterAll(async () => {
    await etcd.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  it('opens the watch again, without a call of its own, after its token has expired', async () => {
    await using proxy = await TcpProxy.open(etcd.hosts[0] ?? '');
    await using store = new StoreClient({ hosts: [proxy.url], auth: AGENT });
    await using follower = new Follower(store, PREFIX);
    await until(() => follower.line);
    const began = Date.now();
    await until(() => Date.now() - began > TTL_MS + 1_000, { what: 'the token has expired' });
    proxy.blink();
    await putElsewhere(etcd, 'after-expiry');
    await sees(follower, 'after-expiry');
    await put(store, 'and-a-call');
    expect([follower.disorder, follower.snapshots.length]).toEqual([[], 1]);
  });

  it.each(['call', 'watch'] as const)(
    'goes on with its %s after users and roles have changed',
    async first => {
      await using proxy = await TcpProxy.open(etcd.hosts[0] ?? '');
      await using store = new StoreClient({ hosts: [proxy.url], auth: AGENT });
      await using follower = new Follower(store, PREFIX);
      await until(() => follower.line);
      await etcd.ctl(...ROOT, 'user', 'add', `${first}:guests-secret`);
      if (first === 'call') await put(store, 'call-after-change');
      proxy.blink();
      await putElsewhere(etcd, `${first}-watched`);
      await sees(follower, `${first}-watched`);
      await put(store, `${first}-at-the-end`);
      expect(follower.disorder).toEqual([]);
    },
  );
});
