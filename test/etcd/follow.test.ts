import { StoreClient } from '../../store/client.js';
import { readWanted } from '../../store/follow.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { Follower as SharedFollower } from '../support/follower.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

/** A follower with a client of its own. */
class Follower extends SharedFollower {
  readonly #store: StoreClient;

  constructor(hosts: readonly string[], prefix: string) {
    const store = new StoreClient({ hosts });
    super(store, prefix);
    this.#store = store;
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    await this.#store[Symbol.asyncDispose]();
  }
}

/** Puts `count` keys in transactions of 100, all of one revision each. */
async function putMany(store: StoreClient, prefix: string, count: number, value = 'v'): Promise<void> {
  for (let at = 0; at < count; at += 100) {
    const success = Array.from({ length: Math.min(100, count - at) }, (_, i) => ({
      request_put: {
        key: Buffer.from(`${prefix}${String(at + i).padStart(6, '0')}`),
        value: Buffer.from(value),
      },
    }));
    await store.txn({ compare: [], success, failure: [] });
  }
}

const put = (store: StoreClient, key: string, value = 'v') =>
  store.txn({
    compare: [],
    success: [{ request_put: { key: Buffer.from(key), value: Buffer.from(value) } }],
    failure: [],
  });

const remove = (store: StoreClient, key: string) =>
  store.txn({
    compare: [],
    success: [{ request_delete_range: { key: Buffer.from(key) } }],
    failure: [],
  });

describe('follow()', () => {
  let etcd: EtcdCluster;
  let writer: StoreClient;
  let tests = 0;
  let prefix = '';

  beforeAll(async () => {
    etcd = await startEtcd();
    writer = new StoreClient({ hosts: etcd.hosts });
  });
  beforeEach(() => {
    tests += 1;
    prefix = `/follow-${tests}/`;
  });
  afterAll(async () => {
    await writer[Symbol.asyncDispose]();
    await etcd.stop();
  });

  const sameAsEtcd = async (follower: Follower) =>
    expect([...follower.values].sort()).toEqual([...(await etcd.entries(prefix))].sort());

  it('gives a snapshot, then changes and deletions', async () => {
    await put(writer, `${prefix}before`);
    await using follower = new Follower(etcd.hosts, prefix);
    await until(() => follower.line, { what: 'the stream is confirmed' });
    expect([...follower.values]).toEqual([[`${prefix}before`, 'v']]);
    await put(writer, `${prefix}after`, 'first');
    await put(writer, `${prefix}after`, 'second');
    await remove(writer, `${prefix}before`);
    await put(writer, '/somewhere-else', 'not followed');
    await put(writer, `${prefix}end`);
    await until(() => follower.values.has(`${prefix}end`));
    expect([...follower.values]).toEqual([
      [`${prefix}after`, 'second'],
      [`${prefix}end`, 'v'],
    ]);
    expect(follower.changes).toHaveLength(4);
    expect(follower.snapshots).toHaveLength(1);
  });

  it('loses nothing and tells nothing twice while the line is cut again and again in the middle of catching up', async () => {
    await using proxy = await TcpProxy.open(etcd.hosts[0] ?? '');
    await using follower = new Follower([proxy.url], prefix);
    await until(() => follower.line);
    proxy.cut();
    await until(() => !follower.line, { what: 'the follower notices the cut' });
    await putMany(writer, prefix, 5_000, 'x'.repeat(200)); // more than a megabyte to catch up with
    proxy.heal();
    for (let round = 1; round <= 4; round++) await proxy.cutAfter(150_000);
    await until(() => follower.values.size === 5_000, { timeoutMs: 15_000, what: 'all keys are known' });
    expect(new Set(follower.changes).size).toBe(5_000);
    expect(follower.changes).toHaveLength(5_000);
    expect(follower.disorder).toEqual([]);
    expect(follower.snapshots).toHaveLength(1);
  });

  it('loses nothing while writes go on and the line blinks', async () => {
    await using proxy = await TcpProxy.open(etcd.hosts[0] ?? '');
    await using follower = new Follower([proxy.url], prefix);
    await until(() => follower.line);
    let writing = true;
    const written = (async () => {
      let n = 0;
      for (; writing; n++) await put(writer, `${prefix}${n % 50}`, String(n));
      return n;
    })();
    for (let round = 0; round < 8; round++) {
      const seen = follower.changes.length;
      await until(() => follower.changes.length > seen + 20, { what: 'changes come again' });
      proxy.blink();
    }
    writing = false;
    const count = await written;
    await until(() => follower.changes.length >= count, { what: 'every write has come' });
    expect(new Set(follower.changes).size).toBe(count);
    expect(follower.changes).toHaveLength(count);
    expect(follower.disorder).toEqual([]);
    await sameAsEtcd(follower);
  });

  it('takes a new snapshot when what it missed was compacted away', async () => {
    await using proxy = await TcpProxy.open(etcd.hosts[0] ?? '');
    await putMany(writer, prefix, 10);
    await using follower = new Follower([proxy.url], prefix);
    await until(() => follower.line);
    proxy.cut();
    await until(() => !follower.line);
    await remove(writer, `${prefix}000003`);
    await put(writer, `${prefix}000004`, 'changed');
    const { header } = await put(writer, `${prefix}new`);
    await etcd.ctl('compact', header.revision, '--physical');
    proxy.heal();
    await until(() => follower.snapshots.length === 2, { what: 'a second snapshot' });
    await sameAsEtcd(follower);
    await put(writer, `${prefix}later`);
    await until(() => follower.values.has(`${prefix}later`));
    await sameAsEtcd(follower);
  });

  it('goes on after kill -9 and restart of etcd', async () => {
    await using follower = new Follower(etcd.hosts, prefix);
    await until(() => follower.line);
    await put(writer, `${prefix}before`);
    await etcd.kill();
    await until(() => !follower.line);
    await etcd.restart();
    const back = performance.now();
    await put(writer, `${prefix}after`);
    await until(() => follower.values.has(`${prefix}after`), { timeoutMs: 3_000 });
    expect(performance.now() - back).toBeLessThan(3_000);
    await sameAsEtcd(follower);
    expect(follower.disorder).toEqual([]);
  });

  it('reads a snapshot of many pages at one revision, whatever happens between the pages', async () => {
    await putMany(writer, prefix, 12_001);
    await using proxy = await TcpProxy.open(etcd.hosts[0] ?? '');
    const stalled = proxy.stallAfter(100_000); // within the first page of 5,000 keys
    await using follower = new Follower([proxy.url], prefix);
    await stalled;
    await remove(writer, `${prefix}012000`);
    await put(writer, `${prefix}011999`, 'changed');
    await put(writer, `${prefix}000000-between`);
    proxy.resume();
    await until(() => follower.changes.length === 3, { what: 'three changes after the snapshot' });
    expect(follower.snapshots).toHaveLength(1);
    expect(follower.values.size).toBe(12_001);
    await sameAsEtcd(follower);
  });

  it('readWanted() brings the values of those keys alone that are wanted, of any number of pages', async () => {
    await putMany(writer, prefix, 5_000, 'value');
    const found = await readWanted(writer, prefix, ({ key }) => key.endsWith('7'));
    expect(found.map(({ key }) => key)).toEqual(
      Array.from({ length: 500 }, (_, i) => `${prefix}${String(10 * i + 7).padStart(6, '0')}`),
    );
    expect(new Set(found.map(({ value }) => value))).toEqual(new Set(['value']));
    expect(await readWanted(writer, prefix, () => false)).toEqual([]);
  });

  it('recovers from an etcd that stops answering and keeps its lines', async () => {
    await using follower = new Follower(etcd.hosts, prefix);
    await until(() => follower.line);
    etcd.pause();
    try {
      // 10 s to the keep-alive, 3 s for its answer.
      await until(() => !follower.line, { timeoutMs: 20_000, what: 'the line is given up' });
    } finally {
      etcd.resume();
    }
    await until(() => follower.line, { timeoutMs: 10_000, what: 'the line is back' });
    await put(writer, `${prefix}after`);
    await until(() => follower.values.has(`${prefix}after`));
    expect(follower.disorder).toEqual([]);
  }, 60_000);

  it('is current within 2 s of the return of an etcd that was away for long', async () => {
    await using proxy = await TcpProxy.open(etcd.hosts[0] ?? '');
    await using follower = new Follower([proxy.url], prefix);
    await until(() => follower.line);
    proxy.cut();
    const away = performance.now();
    await put(writer, `${prefix}meanwhile`);
    // Long enough for reconnect pauses that double to have outgrown two seconds.
    await until(() => performance.now() - away > 12_000, { timeoutMs: 15_000, everyMs: 100 });
    proxy.heal();
    const back = performance.now();
    await until(() => follower.values.has(`${prefix}meanwhile`), { timeoutMs: 10_000 });
    expect(performance.now() - back).toBeLessThan(2_000);
  }, 60_000);

  it('ends when it is told to, also while etcd is away', async () => {
    await using proxy = await TcpProxy.open(etcd.hosts[0] ?? '');
    proxy.cut();
    const follower = new Follower([proxy.url], prefix);
    await until(() => follower.log.texts('warn').includes('etcd is away, trying again'));
    const before = performance.now();
    await follower[Symbol.asyncDispose]();
    expect(performance.now() - before).toBeLessThan(1_000);
  });

  it.each([0, 1, 2, 4, 8])('ends when it is told to %d ms after it began', async delayMs => {
    const follower = new Follower(etcd.hosts, prefix);
    const begun = performance.now();
    await until(() => performance.now() - begun >= delayMs, { everyMs: 0 });
    const before = performance.now();
    await follower[Symbol.asyncDispose]();
    expect(performance.now() - before).toBeLessThan(1_000);
  });
});

describe('follow() of three members', () => {
  it('loses nothing when the leader is killed', async () => {
    await using etcd = await startEtcd({ members: 3 });
    await using writer = new StoreClient({ hosts: etcd.hosts });
    await using follower = new Follower(etcd.hosts, '/three/');
    await until(() => follower.line);
    const written: string[] = [];
    const write = async (from: number) => {
      for (let n = from; n < from + 50; n++) {
        await put(writer, `/three/${n}`);
        written.push(`/three/${n}`);
      }
    };
    await write(0);
    await etcd.kill(await leaderOf(etcd));
    await write(50);
    await until(() => follower.values.size === 100, { timeoutMs: 15_000, what: 'all keys are known' });
    expect([...follower.values.keys()].sort()).toEqual(written.sort());
    expect(follower.disorder).toEqual([]);
    expect(new Set(follower.changes).size).toBe(follower.changes.length);
  }, 60_000);
});

/** Index of the member that leads. */
async function leaderOf(etcd: EtcdCluster): Promise<number> {
  interface Status {
    readonly Endpoint: string;
    readonly Status: { readonly header: { readonly member_id: number }; readonly leader: number };
  }
  const text = await etcd.ctl('endpoint', 'status', '-w', 'json');
  const leading = (JSON.parse(text) as Status[]).find(
    ({ Status }) => Status.leader === Status.header.member_id,
  );
  return etcd.members.findIndex(({ clientUrl }) => clientUrl === leading?.Endpoint);
}
