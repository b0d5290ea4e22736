import fc from 'fast-check';
import type { IpAddress, NetworkId } from '../../model/scalars.js';
import { transact } from '../../store/transaction.js';
import { AddressAgent, bitsFor, makeNetwork, readPool } from '../support/address-agent.js';
import { textOf } from '../support/bit-set.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

let etcd: EtcdCluster;
let tests = 0;
let prefix = '';
let agents: AddressAgent[] = [];

beforeAll(async () => {
  etcd = await startEtcd();
});
beforeEach(() => {
  tests += 1;
  prefix = `/sand-${tests}`;
});
afterEach(async () => {
  await Promise.all(agents.map(agent => agent[Symbol.asyncDispose]()));
  agents = [];
});
afterAll(() => etcd.stop());

function agent(name = `host-${agents.length}`, hosts: readonly string[] = etcd.hosts): AddressAgent {
  const made = new AddressAgent(hosts, prefix, name);
  agents.push(made);
  return made;
}
const ip = (text: string) => text as IpAddress;

/** When all is quiet and spares are given back, the bits are the ends, the gateway and the owners: none lost, none left. */
async function expectConsistent(id: NetworkId, cidr: string): Promise<readonly IpAddress[]> {
  const [{ keys } = agent()] = agents;
  await Promise.all(agents.map(({ addresses }) => addresses[Symbol.asyncDispose]()));
  const { taken, owners, spares } = await readPool(etcd, keys, id);
  expect(spares).toEqual([]);
  expect(taken).toEqual(bitsFor(cidr, owners));
  return owners;
}

describe('commit() of one caller', () => {
  it('takes the lowest free address first', async () => {
    const a = agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    expect([await a.take(id), await a.take(id), await a.take(id)]).toEqual([
      '10.0.0.2',
      '10.0.0.3',
      '10.0.0.4',
    ]);
    await a.free(id, ip('10.0.0.3'));
    expect([await a.take(id), await a.take(id)]).toEqual(['10.0.0.3', '10.0.0.5']);
    expect(await expectConsistent(id, '10.0.0.0/24')).toHaveLength(4);
  });

  it('takes the lowest free address first when hosts take turns', async () => {
    const [a, b, c] = [agent(), agent(), agent()];
    const id = await makeNetwork(a, '10.0.0.0/24');
    const got: IpAddress[] = [];
    for (let round = 0; round < 5; round++) for (const each of [a, b, c]) got.push(await each.take(id));
    expect(got).toEqual(Array.from({ length: 15 }, (_, n) => `10.0.0.${n + 2}`));
  });

  it('stores the very bytes that the layout describes', async () => {
    const a = agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    await a.take(id);
    await a.take(id);
    expect(await etcd.get(a.keys.pool(id))).toBe(
      `{"id":"${id}","address_range":"10.0.0.0/24","address_count":256,"bit_set":"AAAAAAAAAQAAAAAAAAAADwAAAAAAAAAAAAAAAAAAAACAAAAAAAAAAA=="}`,
    );
  });

  it('takes a given address, and refuses one that is taken with the name of its holder', async () => {
    const [a, b] = [agent('ant'), agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/24');
    expect(await a.take(id, ip('10.0.0.77'))).toBe('10.0.0.77');
    await expect(b.take(id, ip('10.0.0.77'))).rejects.toMatchObject({
      kind: 'conflict',
      message: expect.stringMatching(
        /^Address 10\.0\.0\.77 of network .* is taken by endpoint .* of host ant; /,
      ),
      facts: { network_id: id, address: '10.0.0.77', holder: 'ant', owner: 'endpoint' },
    });
    await expect(b.take(id, ip('10.0.0.1'))).rejects.toMatchObject({ kind: 'conflict' });
    await a.free(id, ip('10.0.0.77'));
    expect(await b.take(id, ip('10.0.0.77'))).toBe('10.0.0.77');
    await expectConsistent(id, '10.0.0.0/24');
  });

  it.each(['10.0.0.0', '10.0.0.255', '10.0.1.0', '9.255.255.255', '192.168.0.1'])(
    'refuses %s, which is no host address of 10.0.0.0/24',
    async address => {
      const a = agent();
      const id = await makeNetwork(a, '10.0.0.0/24');
      await expect(a.take(id, ip(address))).rejects.toMatchObject({
        kind: 'invalid',
        message: expect.stringContaining('10.0.0.0/24'),
      });
      expect(await expectConsistent(id, '10.0.0.0/24')).toEqual([]);
    },
  );

  it('passes an address from a reservation to an endpoint, of the same host only', async () => {
    const [a, b] = [agent('ant'), agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/24');
    const address = await a.reserve(id);
    await expect(b.pass(id, address)).rejects.toMatchObject({ kind: 'conflict' });
    expect(await a.pass(id, address)).toBe(address);
    expect(JSON.parse((await etcd.get(a.keys.addressOwner(id, address))) ?? '')).toMatchObject({
      kind: 'endpoint',
      hostname: 'ant',
    });
    await expectConsistent(id, '10.0.0.0/24');
  });

  it("leaves somebody else's address alone when asked to free it, and carries out what goes with it", async () => {
    const [a, b] = [agent('ant'), agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/24');
    const address = await a.take(id);
    const record = `${prefix}/of-the-change`;
    await b.free(id, address, { writes: () => [{ put: record, value: 'written' }] });
    expect(await etcd.get(record)).toBe('"written"');
    expect(await expectConsistent(id, '10.0.0.0/24')).toEqual([address]);
  });

  it('frees only once: a second time changes nothing, whoever has the address by then', async () => {
    const [a, b] = [agent('ant'), agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/24');
    const address = await a.take(id);
    await a.free(id, address);
    expect(await b.take(id)).toBe(address);
    await a.free(id, address);
    expect(await expectConsistent(id, '10.0.0.0/24')).toEqual([address]);
  });

  it('says not-found in a network that is gone, where freeing succeeds and takes its records along', async () => {
    const a = agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    const address = await a.take(id);
    await etcd.ctl('del', a.keys.network(id));
    await etcd.ctl('del', a.keys.pool(id));
    await expect(a.take(id)).rejects.toMatchObject({ kind: 'not-found' });
    const record = `${prefix}/record`;
    await etcd.ctl('put', record, '1');
    await a.free(id, address, { writes: () => [{ delete: record }] });
    expect(await etcd.keys(a.keys.addressOwners(id))).toEqual([]);
    expect(await etcd.get(record)).toBeUndefined();
  });
});

describe('commit() at the end of a range', () => {
  it.each([
    ['10.0.0.0/29', 5],
    ['10.0.0.0/30', 1],
  ])('gives every address of %s and then a clear error, never one outside', async (cidr, count) => {
    const [a, b] = [agent(), agent()];
    const id = await makeNetwork(a, cidr);
    const got: IpAddress[] = [];
    for (let n = 0; n < count; n++) got.push(await (n % 2 ? a : b).take(id));
    expect(got).toEqual(Array.from({ length: count }, (_, n) => `10.0.0.${n + 2}`));
    for (const each of [a, b]) {
      await expect(each.take(id)).rejects.toMatchObject({
        kind: 'exhausted',
        message: expect.stringContaining(`no free address left in ${cidr}`),
        facts: { network_id: id },
      });
    }
    await b.free(id, ip('10.0.0.2'));
    expect(await a.take(id)).toBe('10.0.0.2');
    await expectConsistent(id, cidr);
  });

  it('of twenty callers on three agents lets five into a /29 and tells fifteen that it is full', async () => {
    const hosts = [agent(), agent(), agent()];
    const id = await makeNetwork(agent(), '10.0.0.0/29');
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, (_, n) => (hosts[n % 3] as AddressAgent).take(id)),
    );
    const got = results.flatMap(result => (result.status === 'fulfilled' ? [result.value] : []));
    expect(got.sort()).toEqual([2, 3, 4, 5, 6].map(n => `10.0.0.${n}`));
    for (const result of results) {
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ kind: 'exhausted' });
    }
    await expectConsistent(id, '10.0.0.0/29');
  });

  it('hands out every address of a small pool to three contending agents, their spares too', async () => {
    const hosts = [agent(), agent(), agent()];
    const id = await makeNetwork(agent(), '10.0.0.0/25');
    const take = (count: number, each: readonly AddressAgent[]) =>
      Promise.all(Array.from({ length: count }, (_, n) => (each[n % each.length] as AddressAgent).take(id)));
    const got = [...(await take(60, hosts)), ...(await take(65, hosts.slice(0, 1)))];
    expect(new Set(got).size).toBe(125);
    await expect(hosts[1]?.take(id)).rejects.toMatchObject({ kind: 'exhausted' });
    expect(await expectConsistent(id, '10.0.0.0/25')).toHaveLength(125);
  });

  it('takes the spares of another host before it says that the pool is full', async () => {
    const [a, b] = [agent('ant'), agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/29');
    // A host that is gone holds all but one.
    const spares = [3, 4, 5, 6].map(n => `10.0.0.${n}`);
    const record = {
      id,
      address_range: '10.0.0.0/29',
      address_count: 8,
      bit_set: textOf(8, [0, 1, 3, 4, 5, 6, 7]),
    };
    await etcd.ctl('put', a.keys.pool(id), JSON.stringify(record));
    await etcd.ctl('put', a.keys.addressSpare(id, 'gone' as never), JSON.stringify({ addresses: spares }));
    expect(await a.take(id, ip('10.0.0.5'))).toBe('10.0.0.5');
    const got = await Promise.all([a.take(id), b.take(id), a.take(id), b.take(id)]);
    expect(got.sort()).toEqual(['10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.6']);
    await expect(a.take(id)).rejects.toMatchObject({ kind: 'exhausted' });
    await expectConsistent(id, '10.0.0.0/29');
  });

  it('takes over spares of more hosts at once than one transaction may name', async () => {
    const a = agent('ant');
    const id = await makeNetwork(a, '10.0.0.0/26');
    const addresses = Array.from({ length: 61 }, (_, n) => `10.0.0.${n + 2}`);
    const bit_set = textOf(
      64,
      Array.from({ length: 64 }, (_, n) => n),
    );
    const writes = addresses.map((address, n) => ({
      put: a.keys.addressSpare(id, `gone-${n}` as never),
      value: { addresses: [address] },
    }));
    const pool = { id, address_range: '10.0.0.0/26', address_count: 64, bit_set };
    await transact(a.store, { conditions: [], writes: [...writes, { put: a.keys.pool(id), value: pool }] });
    const got = await Promise.all(addresses.map(() => a.take(id)));
    expect(got.sort()).toEqual(addresses.sort());
    await expectConsistent(id, '10.0.0.0/26');
  });
});

describe('commit() of many callers', () => {
  it('gives 64 racing callers on 3 agents 64 addresses, none of them after more than 2 s', async () => {
    const hosts = [agent(), agent(), agent()];
    const id = await makeNetwork(agent(), '10.0.0.0/24');
    const waits: number[] = [];
    const got = await Promise.all(
      Array.from({ length: 64 }, async (_, n) => {
        const before = performance.now();
        const address = await (hosts[n % 3] as AddressAgent).take(id);
        waits.push(performance.now() - before);
        return address;
      }),
    );
    expect(new Set(got).size).toBe(64);
    expect(Math.max(...waits)).toBeLessThan(2_000);
    expect([...(await expectConsistent(id, '10.0.0.0/24'))].sort()).toEqual(got.sort());
  });

  it('gives 16 agents with one caller each their addresses again and again, and refuses none', async () => {
    const hosts = Array.from({ length: 16 }, () => agent());
    const id = await makeNetwork(agent(), '10.0.0.0/22');
    const got = await Promise.all(
      hosts.map(async host => {
        const mine: IpAddress[] = [];
        for (let n = 0; n < 12; n++) {
          mine.push(await host.take(id)); // refused after 6 s
        }
        return mine;
      }),
    );
    expect(new Set(got.flat()).size).toBe(16 * 12);
    await expectConsistent(id, '10.0.0.0/22');
  });

  it('gives spares back by itself when the rush is over', async () => {
    const hosts = [agent(), agent(), agent(), agent()];
    const [a] = hosts as [AddressAgent];
    const id = await makeNetwork(a, '10.0.0.0/24');
    await until(
      async () => {
        const taken = await Promise.all(hosts.map(host => host.take(id)));
        await Promise.all(hosts.map((host, n) => host.free(id, taken[n] as IpAddress)));
        return (await readPool(etcd, a.keys, id)).spares.length > 0;
      },
      { timeoutMs: 20_000, what: 'contention has made spares' },
    );
    await until(async () => (await readPool(etcd, a.keys, id)).spares.length === 0, {
      timeoutMs: 10_000,
      what: 'all spares are back',
    });
    expect((await readPool(etcd, a.keys, id)).taken).toEqual([0, 1, 255]);
  });

  it('gives a free address again when it is wanted by name, also out of a spare', async () => {
    const [a, b] = [agent('ant'), agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/24');
    await etcd.ctl('put', a.keys.addressSpare(id, 'bee' as never), '{"addresses":["10.0.0.9","10.0.0.10"]}');
    const record = {
      id,
      address_range: '10.0.0.0/24',
      address_count: 256,
      bit_set: textOf(256, [0, 1, 9, 10, 255]),
    };
    await etcd.ctl('put', a.keys.pool(id), JSON.stringify(record));
    expect(await a.take(id, ip('10.0.0.9'))).toBe('10.0.0.9');
    expect(await b.take(id)).toBe('10.0.0.10');
    expect(await b.take(id)).toBe('10.0.0.2');
    await expectConsistent(id, '10.0.0.0/24');
  });

  it('lets one of 30 callers have a given address', async () => {
    const hosts = [agent(), agent(), agent()];
    const id = await makeNetwork(agent(), '10.0.0.0/24');
    const results = await Promise.allSettled(
      Array.from({ length: 30 }, (_, n) => (hosts[n % 3] as AddressAgent).take(id, ip('10.0.0.50'))),
    );
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const result of results) {
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ kind: 'conflict' });
    }
    expect(await expectConsistent(id, '10.0.0.0/24')).toEqual(['10.0.0.50']);
  });
});

describe('what the pool does not say', () => {
  it('an address of a living endpoint and the gateway are not given away when their bits are cleared, and set again', async () => {
    const a = agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    const endpoint = `${prefix}/network-endpoints/${id}/made-by-the-original`;
    await etcd.ctl('put', endpoint, '{}');
    a.bearers.set(ip('10.0.0.1'), a.keys.network(id)).set(ip('10.0.0.2'), endpoint);
    const record = { id, address_range: '10.0.0.0/24', address_count: 256, bit_set: textOf(256, [0, 255]) };
    await etcd.ctl('put', a.keys.pool(id), JSON.stringify(record));
    await expect(a.take(id, ip('10.0.0.2'))).rejects.toMatchObject({ kind: 'conflict' });
    expect(await a.take(id)).toBe('10.0.0.3');
    expect((await readPool(etcd, a.keys, id)).taken).toEqual([0, 1, 2, 3, 255]);
  });

  it('an address whose owner key stands is not given away when its bit is cleared', async () => {
    const a = agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    await a.take(id);
    const record = {
      id,
      address_range: '10.0.0.0/24',
      address_count: 256,
      bit_set: textOf(256, [0, 1, 255]),
    };
    await etcd.ctl('put', a.keys.pool(id), JSON.stringify(record));
    const b = agent();
    expect(await b.take(id)).toBe('10.0.0.3');
    expect(await a.take(id)).toBe('10.0.0.4');
    expect([...(await expectConsistent(id, '10.0.0.0/24'))].sort()).toEqual([
      '10.0.0.2',
      '10.0.0.3',
      '10.0.0.4',
    ]);
  });

  it('an address that the mirror still takes for borne is given when the record is gone, by name and as the lowest', async () => {
    const a = agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    for (const n of [2, 3]) a.bearers.set(ip(`10.0.0.${n}`), `${prefix}/network-endpoints/${id}/gone-${n}`);
    expect(await a.take(id, ip('10.0.0.3'))).toBe('10.0.0.3');
    expect(await a.take(id)).toBe('10.0.0.2');
    await expectConsistent(id, '10.0.0.0/24');
  });

  it('an address that another host had when we looked, and has freed since, is given again and leaks no bit', async () => {
    const [a, b] = [agent('ant'), agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/24');
    const address = await b.take(id);
    await expect(a.take(id, address)).rejects.toMatchObject({ kind: 'conflict' }); // now A knows the owner
    await a.take(id);
    await b.free(id, address);
    expect(await a.take(id)).toBe(address);
    await expectConsistent(id, '10.0.0.0/24');
  });

  it('a stale refusal in a group that has a success beside it is looked at again', async () => {
    const [a, b] = [agent('ant'), agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/24');
    const address = await b.reserve(id, ip('10.0.0.9'));
    const first = await a.take(id);
    await expect(a.take(id, address)).rejects.toMatchObject({ kind: 'conflict' });
    await a.free(id, first);
    await b.free(id, address);
    expect(await Promise.all([a.take(id), a.take(id, address)])).toEqual(['10.0.0.2', '10.0.0.9']);
    await expectConsistent(id, '10.0.0.0/24');
  });

  it('the bit of an address that another record bears too stays set when the first goes', async () => {
    const a = agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    const address = await a.take(id);
    const other = `${prefix}/network-endpoints/${id}/made-by-the-original`;
    await etcd.ctl('put', other, '{}');
    a.bearers.set(address, other);
    await a.free(id, address);
    expect((await readPool(etcd, a.keys, id)).taken).toContain(2);
    expect(await a.take(id)).toBe('10.0.0.3');
  });
});

describe('ranges larger than a /24', () => {
  it('a /16: weights of the bytes are 1 and 256', async () => {
    const a = agent();
    const id = await makeNetwork(a, '10.0.0.0/16');
    await a.take(id, ip('10.0.1.5'));
    await a.take(id, ip('10.0.255.254'));
    expect((await readPool(etcd, a.keys, id)).taken).toEqual([0, 1, 261, 65_534, 65_535]);
    await a.free(id, ip('10.0.1.5'));
    expect(await a.take(id)).toBe('10.0.0.2');
    await expectConsistent(id, '10.0.0.0/16');
  });

  it('a /16: goes on behind the first /24', async () => {
    const a = agent();
    const id = await makeNetwork(a, '10.0.0.0/16');
    const got = await Promise.all(Array.from({ length: 300 }, () => a.take(id)));
    expect(new Set(got).size).toBe(300);
    expect(got).toContain('10.0.1.45'); // number 301
    await expectConsistent(id, '10.0.0.0/16');
  });

  it('a /8: addresses beyond the first 65,536 only by name, through their owner key', async () => {
    const [a, b] = [agent('ant'), agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/8');
    const before = await etcd.get(a.keys.pool(id));
    expect(JSON.parse(before ?? '')).toMatchObject({ address_range: '10.0.0.0/8', address_count: 65_536 });
    expect(await a.take(id, ip('10.200.3.4'))).toBe('10.200.3.4');
    expect(await etcd.get(a.keys.pool(id))).toBe(before);
    await expect(b.take(id, ip('10.200.3.4'))).rejects.toMatchObject({
      kind: 'conflict',
      facts: { holder: 'ant' },
    });
    await a.free(id, ip('10.200.3.4'));
    expect(await b.take(id, ip('10.200.3.4'))).toBe('10.200.3.4');
    expect(await b.take(id)).toBe('10.0.0.2');
    await expect(b.take(id, ip('10.255.255.255'))).rejects.toMatchObject({ kind: 'invalid' });
  });

  it('a /8 whose covered part is full is exhausted, and still gives what is asked for by name', async () => {
    const a = agent();
    const id = await makeNetwork(a, '10.0.0.0/8');
    const bit_set = textOf(
      65_536,
      Array.from({ length: 65_536 }, (_, n) => n),
    );
    const record = { id, address_range: '10.0.0.0/8', address_count: 65_536, bit_set };
    await transact(a.store, { conditions: [], writes: [{ put: a.keys.pool(id), value: record }] });
    await expect(a.take(id)).rejects.toMatchObject({ kind: 'exhausted' });
    expect(await a.take(id, ip('10.1.0.0'))).toBe('10.1.0.0');
  });
});

describe('broken records', () => {
  const good = { address_range: '10.0.0.0/24', address_count: 256, bit_set: textOf(256, [0, 1, 255]) };
  it.each([
    ['no JSON', () => '{'],
    ['another count', (id: string) => JSON.stringify({ ...good, id, address_count: 255 })],
    ['a bit set that is no base64', (id: string) => JSON.stringify({ ...good, id, bit_set: '###' })],
    [
      'a bit set of another length',
      (id: string) => JSON.stringify({ ...good, id, bit_set: textOf(128, [0]) }),
    ],
    ['a range with host bits', (id: string) => JSON.stringify({ ...good, id, address_range: '10.0.0.7/24' })],
    ['no bit set', (id: string) => JSON.stringify({ ...good, id, bit_set: undefined })],
  ])('a pool with %s is a conflict that names the key, until it is mended', async (_, broken) => {
    const a = agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    const key = a.keys.pool(id);
    await etcd.ctl('put', key, broken(id));
    const error = { kind: 'conflict', message: expect.stringContaining(key) };
    await expect(a.take(id)).rejects.toMatchObject(error);
    await etcd.ctl('put', key, JSON.stringify({ ...good, id }));
    expect(await a.take(id)).toBe('10.0.0.2');
  });

  it('a network without a pool is a conflict that names the key', async () => {
    const a = agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    await etcd.ctl('del', a.keys.pool(id));
    const error = { kind: 'conflict', message: expect.stringContaining(a.keys.pool(id)) };
    await expect(a.take(id)).rejects.toMatchObject(error);
  });
});

describe('when etcd does not answer', () => {
  /** Sends one change whose answer is lost, and cuts the line when etcd has carried it out. */
  async function loseAnswer<T>(
    proxy: TcpProxy,
    done: () => Promise<unknown>,
    send: () => Promise<T>,
  ): Promise<T> {
    proxy.swallowAnswers();
    const answer = send();
    await until(done, { what: 'etcd has carried it out' });
    proxy.blink();
    return answer;
  }

  it('recognises its own first try of a take whose answer was lost, and makes it known once', async () => {
    await using proxy = await TcpProxy.open(etcd.hosts[0] ?? '');
    const a = agent('ant', [proxy.url]);
    const id = await makeNetwork(a, '10.0.0.0/24');
    await a.take(id);
    const owner = a.keys.addressOwner(id, ip('10.0.0.3'));
    const known = a.commits.length;
    expect(
      await loseAnswer(
        proxy,
        () => etcd.get(owner),
        () => a.take(id),
      ),
    ).toBe('10.0.0.3');
    expect([...(await expectConsistent(id, '10.0.0.0/24'))].sort()).toEqual(['10.0.0.2', '10.0.0.3']);
    expect(a.commits).toHaveLength(known + 1);
    const made = a.commits.at(-1)?.writes.flatMap(write => ('put' in write ? [write.put] : [])) ?? [];
    for (const key of made) expect(await etcd.get(key)).toBeDefined();
    expect(made.filter(key => key.includes('/records/'))).toHaveLength(3);
  });

  it('frees once when the answer of a free was lost', async () => {
    await using proxy = await TcpProxy.open(etcd.hosts[0] ?? '');
    const a = agent('ant', [proxy.url]);
    const b = agent('bee');
    const id = await makeNetwork(b, '10.0.0.0/24');
    const address = await a.take(id);
    const gone = async () => (await etcd.get(a.keys.addressOwner(id, address))) === undefined;
    const takenByB = async () => (await gone()) && (await b.take(id)) === address;
    await loseAnswer(proxy, takenByB, () => a.free(id, address));
    expect(await expectConsistent(id, '10.0.0.0/24')).toEqual([address]);
  });

  it('gives a group of callers what their lost answer said', async () => {
    await using proxy = await TcpProxy.open(etcd.hosts[0] ?? '');
    const a = agent('ant', [proxy.url]);
    const id = await makeNetwork(a, '10.0.0.0/24');
    const done = async () => (await etcd.keys(a.keys.addressOwners(id))).length > 0;
    await a.free(id, await a.take(id));
    const got = await loseAnswer(proxy, done, () =>
      Promise.all(Array.from({ length: 20 }, () => a.take(id))),
    );
    expect(new Set(got).size).toBe(20);
    expect([...(await expectConsistent(id, '10.0.0.0/24'))].sort()).toEqual(got.sort());
  });

  it('answers every caller while etcd is killed and comes back, and loses and doubles nothing', async () => {
    const hosts = [agent(), agent(), agent()];
    const id = await makeNetwork(agent(), '10.0.0.0/23');
    const mine = new Set<IpAddress>();
    let killed = false;
    const callers = hosts.map(async host => {
      for (let n = 0; n < 60; n++) {
        if (n === 20 && !killed) {
          killed = true;
          await etcd.kill();
          await etcd.restart();
        }
        await host.take(id).then(
          address => {
            expect(mine).not.toContain(address);
            mine.add(address);
          },
          error => expect(error).toMatchObject({ kind: 'unavailable' }),
        );
      }
    });
    await Promise.all(callers);
    const owners = await expectConsistent(id, '10.0.0.0/23');
    expect(owners).toEqual(expect.arrayContaining([...mine]));
  }, 60_000);
});

describe('any sequence of changes on two agents', () => {
  const step = fc.record({
    by: fc.integer({ min: 0, max: 1 }),
    kind: fc.constantFrom('lowest', 'lowest', 'given', 'free', 'free-other'),
    n: fc.integer({ min: 0, max: 15 }),
  });
  type StepOf = { readonly by: number; readonly kind: string; readonly n: number };

  it('ends with the bits of the ends, the gateway and the owners, and no address twice', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(step, { minLength: 1, maxLength: 8 }), { maxLength: 8 }),
        async batches => {
          const hosts = [agent(), agent()] as const;
          const id = await makeNetwork(hosts[0], '10.0.0.0/28');
          const held = [new Set<IpAddress>(), new Set<IpAddress>()] as const;
          const carryOut = async ({ by, kind, n }: StepOf) => {
            const host = by === 0 ? hosts[0] : hosts[1];
            const [own, others] = by === 0 ? held : [held[1], held[0]];
            if (kind.startsWith('free')) {
              // Freeing what another host holds changes nothing.
              const among = kind === 'free' ? own : others;
              const address = [...among][n % Math.max(among.size, 1)];
              if (address === undefined) return;
              own.delete(address);
              await host.free(id, address);
            } else {
              const got = await host.take(id, kind === 'given' ? ip(`10.0.0.${n}`) : 'lowest');
              for (const each of held) expect(each).not.toContain(got);
              own.add(got);
            }
          };
          for (const batch of batches) {
            const results = await Promise.allSettled(batch.map(carryOut));
            for (const result of results) {
              if (result.status === 'rejected' && !('kind' in result.reason)) throw result.reason;
            }
          }
          const owners = await expectConsistent(id, '10.0.0.0/28');
          expect([...owners].sort()).toEqual([...held[0], ...held[1]].sort());
          await Promise.all(agents.splice(0).map(each => each[Symbol.asyncDispose]()));
        },
      ),
      { numRuns: 30 },
    );
  }, 120_000);
});
