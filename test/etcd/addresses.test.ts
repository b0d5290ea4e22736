import type { IpAddress } from '../../model/scalars.js';
import { transact } from '../../store/transaction.js';
import { type AddressAgent, makeNetwork, readPool } from '../support/address-agent.js';
import { AddressLab, ip } from '../support/address-lab.js';
import { textOf } from '../support/bit-set.js';

const lab = AddressLab.open();

describe('commit() of one caller', () => {
  it('takes the lowest free address first', async () => {
    const a = lab.agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    expect([await a.take(id), await a.take(id), await a.take(id)]).toEqual([
      '10.0.0.2',
      '10.0.0.3',
      '10.0.0.4',
    ]);
    await a.free(id, ip('10.0.0.3'));
    expect([await a.take(id), await a.take(id)]).toEqual(['10.0.0.3', '10.0.0.5']);
    expect(await lab.expectConsistent(id, '10.0.0.0/24')).toHaveLength(4);
  });

  it('takes the lowest free address first when hosts take turns', async () => {
    const [a, b, c] = [lab.agent(), lab.agent(), lab.agent()];
    const id = await makeNetwork(a, '10.0.0.0/24');
    const got: IpAddress[] = [];
    for (let round = 0; round < 5; round++) for (const each of [a, b, c]) got.push(await each.take(id));
    expect(got).toEqual(Array.from({ length: 15 }, (_, n) => `10.0.0.${n + 2}`));
  });

  it('stores the very bytes that the layout describes', async () => {
    const a = lab.agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    await a.take(id);
    await a.take(id);
    expect(await lab.etcd.get(a.keys.pool(id))).toBe(
      `{"id":"${id}","address_range":"10.0.0.0/24","address_count":256,"bit_set":"AAAAAAAAAQAAAAAAAAAADwAAAAAAAAAAAAAAAAAAAACAAAAAAAAAAA=="}`,
    );
  });

  it('takes a given address, and refuses one that is taken with the name of its holder', async () => {
    const [a, b] = [lab.agent('ant'), lab.agent('bee')];
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
    await lab.expectConsistent(id, '10.0.0.0/24');
  });

  it.each(['10.0.0.0', '10.0.0.255', '10.0.1.0', '9.255.255.255', '192.168.0.1'])(
    'refuses %s, which is no host address of 10.0.0.0/24',
    async address => {
      const a = lab.agent();
      const id = await makeNetwork(a, '10.0.0.0/24');
      await expect(a.take(id, ip(address))).rejects.toMatchObject({
        kind: 'invalid',
        message: expect.stringContaining('10.0.0.0/24'),
      });
      expect(await lab.expectConsistent(id, '10.0.0.0/24')).toEqual([]);
    },
  );

  it('passes an address from a reservation to an endpoint, of the same host only', async () => {
    const [a, b] = [lab.agent('ant'), lab.agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/24');
    const address = await a.reserve(id);
    await expect(b.pass(id, address)).rejects.toMatchObject({ kind: 'conflict' });
    expect(await a.pass(id, address)).toBe(address);
    expect(JSON.parse((await lab.etcd.get(a.keys.addressOwner(id, address))) ?? '')).toMatchObject({
      kind: 'endpoint',
      hostname: 'ant',
    });
    await lab.expectConsistent(id, '10.0.0.0/24');
  });

  it("leaves somebody else's address alone when asked to free it, and carries out what goes with it", async () => {
    const [a, b] = [lab.agent('ant'), lab.agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/24');
    const address = await a.take(id);
    const record = `${lab.prefix}/of-the-change`;
    await b.free(id, address, { writes: () => [{ put: record, value: 'written' }] });
    expect(await lab.etcd.get(record)).toBe('"written"');
    expect(await lab.expectConsistent(id, '10.0.0.0/24')).toEqual([address]);
  });

  it('frees only once: a second time changes nothing, whoever has the address by then', async () => {
    const [a, b] = [lab.agent('ant'), lab.agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/24');
    const address = await a.take(id);
    await a.free(id, address);
    expect(await b.take(id)).toBe(address);
    await a.free(id, address);
    expect(await lab.expectConsistent(id, '10.0.0.0/24')).toEqual([address]);
  });

  it('says not-found in a network that is gone, where freeing succeeds and takes its records along', async () => {
    const a = lab.agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    const address = await a.take(id);
    await lab.etcd.ctl('del', a.keys.network(id));
    await lab.etcd.ctl('del', a.keys.pool(id));
    await expect(a.take(id)).rejects.toMatchObject({ kind: 'not-found' });
    const record = `${lab.prefix}/record`;
    await lab.etcd.ctl('put', record, '1');
    await a.free(id, address, { writes: () => [{ delete: record }] });
    expect(await lab.etcd.keys(a.keys.addressOwners(id))).toEqual([]);
    expect(await lab.etcd.get(record)).toBeUndefined();
  });
});

describe('commit() at the end of a range', () => {
  it.each([
    ['10.0.0.0/29', 5],
    ['10.0.0.0/30', 1],
  ])('gives every address of %s and then a clear error, never one outside', async (cidr, count) => {
    const [a, b] = [lab.agent(), lab.agent()];
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
    await lab.expectConsistent(id, cidr);
  });

  it('of twenty callers on three agents lets five into a /29 and tells fifteen that it is full', async () => {
    const hosts = [lab.agent(), lab.agent(), lab.agent()];
    const id = await makeNetwork(lab.agent(), '10.0.0.0/29');
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, (_, n) => (hosts[n % 3] as AddressAgent).take(id)),
    );
    const got = results.flatMap(result => (result.status === 'fulfilled' ? [result.value] : []));
    expect(got.sort()).toEqual([2, 3, 4, 5, 6].map(n => `10.0.0.${n}`));
    for (const result of results) {
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ kind: 'exhausted' });
    }
    await lab.expectConsistent(id, '10.0.0.0/29');
  });

  it('hands out every address of a small pool to three contending agents, their spares too', async () => {
    const hosts = [lab.agent(), lab.agent(), lab.agent()];
    const id = await makeNetwork(lab.agent(), '10.0.0.0/25');
    const take = (count: number, each: readonly AddressAgent[]) =>
      Promise.all(Array.from({ length: count }, (_, n) => (each[n % each.length] as AddressAgent).take(id)));
    const got = [...(await take(60, hosts)), ...(await take(65, hosts.slice(0, 1)))];
    expect(new Set(got).size).toBe(125);
    await expect(hosts[1]?.take(id)).rejects.toMatchObject({ kind: 'exhausted' });
    expect(await lab.expectConsistent(id, '10.0.0.0/25')).toHaveLength(125);
  });

  it('takes the spares of another host before it says that the pool is full', async () => {
    const [a, b] = [lab.agent('ant'), lab.agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/29');
    // A host that is gone holds all but one.
    const spares = [3, 4, 5, 6].map(n => `10.0.0.${n}`);
    const record = {
      id,
      address_range: '10.0.0.0/29',
      address_count: 8,
      bit_set: textOf(8, [0, 1, 3, 4, 5, 6, 7]),
    };
    await lab.etcd.ctl('put', a.keys.pool(id), JSON.stringify(record));
    await lab.etcd.ctl(
      'put',
      a.keys.addressSpare(id, 'gone' as never),
      JSON.stringify({ addresses: spares }),
    );
    expect(await a.take(id, ip('10.0.0.5'))).toBe('10.0.0.5');
    const got = await Promise.all([a.take(id), b.take(id), a.take(id), b.take(id)]);
    expect(got.sort()).toEqual(['10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.6']);
    await expect(a.take(id)).rejects.toMatchObject({ kind: 'exhausted' });
    await lab.expectConsistent(id, '10.0.0.0/29');
  });

  it('takes over spares of more hosts at once than one transaction may name', async () => {
    const a = lab.agent('ant');
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
    await lab.expectConsistent(id, '10.0.0.0/26');
  });
});

describe('ranges larger than a /24', () => {
  it('a /16: weights of the bytes are 1 and 256', async () => {
    const a = lab.agent();
    const id = await makeNetwork(a, '10.0.0.0/16');
    await a.take(id, ip('10.0.1.5'));
    await a.take(id, ip('10.0.255.254'));
    expect((await readPool(lab.etcd, a.keys, id)).taken).toEqual([0, 1, 261, 65_534, 65_535]);
    await a.free(id, ip('10.0.1.5'));
    expect(await a.take(id)).toBe('10.0.0.2');
    await lab.expectConsistent(id, '10.0.0.0/16');
  });

  it('a /16: goes on behind the first /24', async () => {
    const a = lab.agent();
    const id = await makeNetwork(a, '10.0.0.0/16');
    const got = await Promise.all(Array.from({ length: 300 }, () => a.take(id)));
    expect(new Set(got).size).toBe(300);
    expect(got).toContain('10.0.1.45'); // number 301
    await lab.expectConsistent(id, '10.0.0.0/16');
  });

  it('a /8: addresses beyond the first 65,536 only by name, through their owner key', async () => {
    const [a, b] = [lab.agent('ant'), lab.agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/8');
    const before = await lab.etcd.get(a.keys.pool(id));
    expect(JSON.parse(before ?? '')).toMatchObject({ address_range: '10.0.0.0/8', address_count: 65_536 });
    expect(await a.take(id, ip('10.200.3.4'))).toBe('10.200.3.4');
    expect(await lab.etcd.get(a.keys.pool(id))).toBe(before);
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
    const a = lab.agent();
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
    const a = lab.agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    const key = a.keys.pool(id);
    await lab.etcd.ctl('put', key, broken(id));
    const error = { kind: 'conflict', message: expect.stringContaining(key) };
    await expect(a.take(id)).rejects.toMatchObject(error);
    await lab.etcd.ctl('put', key, JSON.stringify({ ...good, id }));
    expect(await a.take(id)).toBe('10.0.0.2');
  });

  it('a network without a pool is a conflict that names the key', async () => {
    const a = lab.agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    await lab.etcd.ctl('del', a.keys.pool(id));
    const error = { kind: 'conflict', message: expect.stringContaining(a.keys.pool(id)) };
    await expect(a.take(id)).rejects.toMatchObject(error);
  });
});
