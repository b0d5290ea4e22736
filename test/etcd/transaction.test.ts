import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { StoreClient } from '../../store/client.js';
import {
  type Condition,
  distinctWrites,
  MAX_TXN_OPS,
  readKey,
  readPrefix,
  transact,
} from '../../store/transaction.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

let etcd: EtcdCluster;
let store: StoreClient;
let tests = 0;
let prefix = '';

beforeAll(async () => {
  etcd = await startEtcd();
  store = new StoreClient({ hosts: etcd.hosts });
});
beforeEach(() => {
  tests += 1;
  prefix = `/txn-${tests}`;
});
afterAll(async () => {
  await store[Symbol.asyncDispose]();
  await etcd.stop();
});

/** Writes one key and gives its revision. */
async function put(key: string, value: unknown = 'v'): Promise<number> {
  const result = await transact(store, { conditions: [], writes: [{ put: `${prefix}/${key}`, value }] });
  return result.revision;
}

describe('transact()', () => {
  it.each<[string, (revision: number) => Condition, boolean]>([
    ['absent, and it is', () => ({ absent: `${prefix}/b` }), true],
    ['absent, but it is there', () => ({ absent: `${prefix}/a` }), false],
    ['exists, and it does', () => ({ exists: `${prefix}/a` }), true],
    ['exists, but it does not', () => ({ exists: `${prefix}/b` }), false],
    ['exists, but only a longer key does', () => ({ exists: `${prefix}/` }), false],
    ['unchanged, and it is', revision => ({ unchanged: `${prefix}/a`, revision }), true],
    [
      'unchanged, but written since',
      revision => ({ unchanged: `${prefix}/a`, revision: revision - 1 }),
      false,
    ],
    ['unchanged at 0, and it is absent', () => ({ unchanged: `${prefix}/b`, revision: 0 }), true],
    ['unchanged at 0, but it is there', () => ({ unchanged: `${prefix}/a`, revision: 0 }), false],
    ['a prefix is empty, and it is', () => ({ empty: `${prefix}/a/` }), true],
    ['a prefix is empty, but it is not', () => ({ empty: `${prefix}/` }), false],
    ['a prefix is empty, with a neighbour that begins alike', () => ({ empty: `${prefix}/a-` }), true],
  ])('%s', async (_, condition, committed) => {
    const revision = await put('a');
    const result = await transact(store, {
      conditions: [condition(revision)],
      writes: [{ put: `${prefix}/done`, value: true }],
    });
    expect(result.committed).toBe(committed);
    expect(await etcd.get(`${prefix}/done`)).toBe(committed ? 'true' : undefined);
  });

  it('writes JSON without a newline, and nothing of it when one of many conditions fails', async () => {
    await put('a', { text: 'ä', n: 1 });
    expect(await etcd.get(`${prefix}/a`)).toBe('{"text":"ä","n":1}');
    const result = await transact(store, {
      conditions: [{ exists: `${prefix}/a` }, { absent: `${prefix}/b` }, { absent: `${prefix}/a` }],
      writes: [{ put: `${prefix}/b`, value: 1 }, { delete: `${prefix}/a` }],
    });
    expect(result.committed).toBe(false);
    expect(await etcd.keys(prefix)).toEqual([`${prefix}/a`]);
  });

  it('reads in the same answer what there is instead, in the order asked', async () => {
    const revision = await put('a', 'one');
    await put('list/1');
    await put('list/2');
    const result = await transact(store, {
      conditions: [{ absent: `${prefix}/a` }],
      writes: [],
      otherwiseRead: [{ key: `${prefix}/none` }, { prefix: `${prefix}/list/` }, { key: `${prefix}/a` }],
    });
    expect(result).toMatchObject({
      committed: false,
      found: [
        [],
        [{ key: `${prefix}/list/1` }, { key: `${prefix}/list/2` }],
        [
          {
            key: `${prefix}/a`,
            value: '"one"',
            modRevision: revision,
            createRevision: revision,
          },
        ],
      ],
    });
  });

  it('answers the revision that its writes have', async () => {
    const revision = await put('a');
    expect((await readKey(store, `${prefix}/a`))?.modRevision).toBe(revision);
  });

  it('deletes a prefix and no neighbour of it', async () => {
    for (const key of ['owners/1', 'owners/2', 'owners', 'owners-of-others/1', 'ownert']) await put(key);
    await transact(store, { conditions: [], writes: [{ deletePrefix: `${prefix}/owners/` }] });
    expect(await etcd.keys(prefix)).toEqual(
      ['owners', 'owners-of-others/1', 'ownert'].map(key => `${prefix}/${key}`),
    );
  });

  it('deletes a key of one value, whatever else it writes', async () => {
    const claim = `${prefix}/claim`;
    const release = (owner: string) => [
      { deleteIf: claim, value: { owner } },
      { put: `${prefix}/done`, value: owner },
    ];
    await transact(store, { conditions: [], writes: [{ put: claim, value: { owner: 'a' } }] });
    const other = await transact(store, { conditions: [], writes: release('b') });
    expect(other.committed).toBe(true);
    expect(await etcd.keys(prefix)).toEqual([claim, `${prefix}/done`]);
    await transact(store, { conditions: [], writes: release('a') });
    expect(await etcd.keys(prefix)).toEqual([`${prefix}/done`]);
    const absent = await transact(store, { conditions: [], writes: release('a') });
    expect(absent.committed).toBe(true);
  });

  it('binds a write to a lease', async () => {
    const lease = await store.grantLease(60);
    await transact(store, { conditions: [], writes: [{ put: `${prefix}/leased`, value: 1, lease }] });
    expect(await etcd.keys(prefix)).toHaveLength(1);
    await store.revokeLease(lease);
    expect(await etcd.keys(prefix)).toEqual([]);
  });

  it(`carries ${MAX_TXN_OPS} writes, and no more`, async () => {
    const writes = (count: number) =>
      Array.from({ length: count }, (_, n) => ({ put: `${prefix}/${n}`, value: n }));
    await transact(store, { conditions: [], writes: writes(MAX_TXN_OPS) });
    expect(await readPrefix(store, `${prefix}/`)).toHaveLength(MAX_TXN_OPS);
    await expect(transact(store, { conditions: [], writes: writes(MAX_TXN_OPS + 1) })).rejects.toThrow(
      /too many operations/,
    );
  });

  it('of racing callers who create one key lets one through', async () => {
    const results = await Promise.all(
      Array.from({ length: 32 }, (_, n) =>
        transact(store, {
          conditions: [{ absent: `${prefix}/one` }],
          writes: [{ put: `${prefix}/one`, value: n }],
          otherwiseRead: [{ key: `${prefix}/one` }],
        }),
      ),
    );
    const winner = results.findIndex(({ committed }) => committed);
    expect(results.filter(({ committed }) => committed)).toHaveLength(1);
    expect(await etcd.get(`${prefix}/one`)).toBe(String(winner));
    for (const result of results) {
      if (!result.committed) expect(result.found[0]?.[0]?.value).toBe(String(winner));
    }
  });

  it('is tried again over a new line when its answer is lost, and tells who was first', async () => {
    await using proxy = await TcpProxy.open(etcd.hosts[0] ?? '');
    await using far = new StoreClient({ hosts: [proxy.url] });
    await readKey(far, prefix);
    proxy.swallowAnswers();
    const answer = transact(far, {
      conditions: [{ absent: `${prefix}/a` }],
      writes: [{ put: `${prefix}/a`, value: 'mine' }],
      otherwiseRead: [{ key: `${prefix}/a` }],
    });
    await until(() => etcd.get(`${prefix}/a`), { what: 'etcd has carried it out' });
    proxy.blink();
    expect(await answer).toMatchObject({ committed: false, found: [[{ value: '"mine"' }]] });
  });

  it('is garbage when it is answered, without a full collection', async () => {
    setFlagsFromString('--expose-gc');
    const gc: (options?: { type: 'minor' }) => void = runInNewContext('gc');
    const write = () => put('a', 'x'.repeat(10_000));
    await write();
    gc();
    const before = process.memoryUsage().heapUsed;
    for (let written = 0; written < 300; written++) await write();
    for (let i = 0; i < 3; i++) gc({ type: 'minor' });
    expect((process.memoryUsage().heapUsed - before) / 300).toBeLessThan(10_000);
  });

  it('is unavailable within 10 s when nobody answers, and names the address', async () => {
    await using far = new StoreClient({ hosts: ['http://127.0.0.1:1'] });
    const before = performance.now();
    await expect(readKey(far, prefix)).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining('http://127.0.0.1:1'),
    });
    expect(performance.now() - before).toBeLessThan(10_000);
  });
});

describe('distinctWrites()', () => {
  it('keeps the last write of each key, at the place of the first', () => {
    expect(
      distinctWrites([
        { put: 'a', value: 1 },
        { put: 'b', value: 1 },
        { delete: 'a' },
        { put: 'b', value: 2 },
        { deletePrefix: 'c/' },
      ]),
    ).toEqual([{ delete: 'a' }, { put: 'b', value: 2 }, { deletePrefix: 'c/' }]);
  });

  it('makes of a group what etcd accepts', async () => {
    const key = `${prefix}/twice`;
    const writes = [{ delete: key }, { put: key, value: 'last' }];
    await expect(transact(store, { conditions: [], writes })).rejects.toThrow(/duplicate key/);
    await transact(store, { conditions: [], writes: distinctWrites(writes) });
    expect(await etcd.get(key)).toBe('"last"');
  });
});
