import fc from 'fast-check';
import { Bitmap } from '../../ipam/bitmap.js';
import { COVERED_MAX, Pool } from '../../ipam/pool.js';
import { addressAt, numberOf, parseGateway, parseRange } from '../../ipam/range.js';
import { InvalidError } from '../../model/errors.js';
import type { PoolRecord } from '../../model/records.js';
import { type IpAddress, parseIpAddress, parseNetworkId } from '../../model/scalars.js';

const ID = parseNetworkId('6ffc3990-b212-47f2-a5d1-2afe7526e548');
const ip = (text: string): IpAddress => parseIpAddress(text);

function freshPool(cidr: string, gateway?: string): Pool {
  const range = parseRange(cidr);
  return Pool.fresh(ID, range, parseGateway(range, gateway));
}

/** Takes the lowest free address until there is none. */
function drain(pool: Pool): IpAddress[] {
  const got: IpAddress[] = [];
  for (let free = pool.lowestFree(); free !== undefined; free = pool.lowestFree()) {
    pool.take(free);
    got.push(free);
  }
  return got;
}

function recordOf(cidr: string, count: number, bits: readonly number[], length = count): PoolRecord {
  const bitmap = Bitmap.empty(length);
  for (const bit of bits) bitmap.set(bit);
  const address_range = cidr as PoolRecord['address_range'];
  return { id: ID, address_range, address_count: count, bit_set: bitmap.encode() };
}

describe('Pool.fresh()', () => {
  it('after two endpoints is byte for byte the described example', () => {
    const pool = freshPool('10.0.0.0/24');
    for (const expected of ['10.0.0.2', '10.0.0.3']) {
      const free = pool.lowestFree(() => false);
      expect(free).toBe(expected);
      pool.take(ip(expected));
    }
    expect(JSON.stringify(pool.toRecord())).toBe(
      `{"id":"${ID}","address_range":"10.0.0.0/24","address_count":256,` +
        '"bit_set":"AAAAAAAAAQAAAAAAAAAADwAAAAAAAAAAAAAAAAAAAACAAAAAAAAAAA=="}',
    );
  });

  it.each([
    ['10.0.0.0/24', undefined, ['10.0.0.0', '10.0.0.1', '10.0.0.255']],
    ['10.0.0.0/24', '10.0.0.254', ['10.0.0.0', '10.0.0.254', '10.0.0.255']],
    ['10.0.0.64/26', '10.0.0.70', ['10.0.0.64', '10.0.0.70', '10.0.0.127']],
    ['10.0.0.0/30', '10.0.0.2', ['10.0.0.0', '10.0.0.2', '10.0.0.3']],
    ['10.0.0.0/16', '10.0.1.1', ['10.0.0.0', '10.0.1.1', '10.0.255.255']],
    ['10.0.0.0/15', undefined, ['10.0.0.0', '10.0.0.1']],
    ['10.0.0.0/8', '10.9.0.1', ['10.0.0.0']],
  ])('of %s with gateway %s has %j taken', (cidr, gateway, taken) => {
    const pool = freshPool(cidr, gateway);
    const covered = Math.min(pool.range.size, COVERED_MAX);
    const numbers = Array.from({ length: covered }, (_, n) => addressAt(pool.range, n));
    expect(numbers.filter(address => pool.isTaken(address))).toEqual(taken);
    expect(pool.toRecord()).toMatchObject({ id: ID, address_range: cidr, address_count: covered });
    expect(pool.freeCount).toBe(covered - taken.length);
  });
});

describe('Pool.fromRecord()', () => {
  it.each(['10.0.0.0/8', '10.0.0.0/15', '10.0.0.0/16', '10.0.0.0/24', '10.0.0.4/30'])(
    'is the inverse of toRecord() for %s',
    cidr => {
      const record = freshPool(cidr).toRecord();
      expect(Pool.fromRecord(record).toRecord()).toEqual(record);
    },
  );

  it('keeps the full bit set that existing agents write for ranges above /16', () => {
    const record = recordOf('10.0.0.0/15', 131_072, [0, 1, 70_000, 131_071]);
    const pool = Pool.fromRecord(record);
    expect(pool.toRecord()).toEqual(record);
    expect(pool.covers(ip('10.1.255.254'))).toBe(true);
    expect(pool.isTaken(addressAt(pool.range, 70_000))).toBe(true);
    expect(drain(pool)).toHaveLength(131_072 - 4);
  });

  it.each([
    ['bit set longer than address_count', recordOf('10.0.0.0/24', 256, [], 257), 'bit_set is 257 bits'],
    ['bit set shorter than address_count', recordOf('10.0.0.0/24', 256, [], 128), 'bit_set is 128 bits'],
    ['address_count below the range', recordOf('10.0.0.0/24', 128, []), 'address_count is 128'],
    ['65,536 for a smaller range', recordOf('10.0.0.0/24', 65_536, []), 'it must be 256'],
    ['part of a larger range', recordOf('10.0.0.0/15', 65_535, []), 'it must be 131072 or 65536'],
    ['no addresses', recordOf('10.0.0.0/24', 0, []), 'address_count is 0'],
    ['host bits', recordOf('10.0.0.7/24', 256, []), 'address_range is 10.0.0.7/24, which has host bits'],
    ['IPv6', recordOf('fd00::/120', 256, []), 'IPv6 is not supported yet'],
    ['no bit set', { ...recordOf('10.0.0.0/24', 256, []), bit_set: '' }, 'bit_set is 0 bytes'],
  ])('refuses %s and names the network', (_, record, text) => {
    const act = () => Pool.fromRecord(record);
    expect(act).toThrow(InvalidError);
    expect(act).toThrow(`The pool of network ${ID} is broken`);
    expect(act).toThrow(text);
    expect(act).toThrow(expect.objectContaining({ facts: expect.objectContaining({ network_id: ID }) }));
  });
});

describe('Pool', () => {
  it.each(['10.0.0.0/22', '10.0.0.0/24', '10.0.0.128/25', '10.0.0.4/30'])(
    'lowestFree() of %s gives every host address once, in order, and none past the end',
    cidr => {
      const pool = freshPool(cidr);
      const { range } = pool;
      const hosts = Array.from({ length: range.size - 3 }, (_, i) => addressAt(range, i + 2));
      expect(drain(pool)).toEqual(hosts);
      expect(pool.lowestFree()).toBeUndefined();
      expect(pool.freeCount).toBe(0);
    },
  );

  it('lowestFree() equals a search address by address', () => {
    const takenAndSkipped = fc.record({
      prefixLength: fc.integer({ min: 23, max: 30 }),
      taken: fc.array(fc.nat(511)),
      skipped: fc.array(fc.nat(511)),
      dense: fc.boolean(),
    });
    fc.assert(
      fc.property(takenAndSkipped, ({ prefixLength, taken, skipped, dense }) => {
        const pool = freshPool(`10.0.0.0/${prefixLength}`);
        const { range } = pool;
        const addresses = Array.from({ length: range.size }, (_, n) => addressAt(range, n));
        for (const [n, address] of addresses.entries()) {
          if (taken.includes(n) !== dense) pool.take(address);
        }
        const skip = (address: IpAddress) => skipped.includes(numberOf(range, address));
        const usable = addresses.slice(1, -1);
        const expected = usable.find(address => !pool.isTaken(address) && !skip(address));
        expect(pool.lowestFree(skip)).toBe(expected);
      }),
    );
  });

  it('lowestFree() gives neither network nor broadcast address, even when their bits are clear', () => {
    expect(drain(Pool.fromRecord(recordOf('10.0.0.4/30', 4, [])))).toEqual(['10.0.0.5', '10.0.0.6']);
  });

  it('lowestFree() allows skip to take what it refuses', () => {
    const pool = freshPool('10.0.0.0/24');
    const free = pool.lowestFree(address => {
      const borne = address !== '10.0.0.5';
      if (borne) pool.take(address);
      return borne;
    });
    expect(free).toBe('10.0.0.5');
    expect(pool.isTaken(ip('10.0.0.4'))).toBe(true);
  });

  // Agents of the original compute one and the same bit for each of these pairs.
  it.each([
    ['10.0.0.2', '10.0.1.0'],
    ['10.0.0.7', '10.0.1.5'],
    ['10.0.0.254', '10.0.127.0'],
  ])('take() and free() of %s leave %s of a /16 alone', (a, b) => {
    const pool = freshPool('10.0.0.0/16');
    pool.take(ip(a));
    expect([pool.isTaken(ip(a)), pool.isTaken(ip(b))]).toEqual([true, false]);
    pool.take(ip(b));
    pool.free(ip(a));
    expect([pool.isTaken(ip(a)), pool.isTaken(ip(b))]).toEqual([false, true]);
  });

  it.each(['10.0.0.0', '10.0.0.255'])('free() leaves %s taken', address => {
    const pool = freshPool('10.0.0.0/24');
    pool.free(ip(address));
    expect(pool.isTaken(ip(address))).toBe(true);
    expect(pool.isUsable(ip(address))).toBe(false);
  });

  it('free() returns any other address', () => {
    const pool = freshPool('10.0.0.0/24');
    pool.take(ip('10.0.0.2'));
    pool.take(ip('10.0.0.3'));
    pool.free(ip('10.0.0.2'));
    expect(pool.lowestFree()).toBe('10.0.0.2');
  });

  it('copy() is changed without its source', () => {
    const pool = freshPool('10.0.0.0/24');
    const before = pool.toRecord();
    const copy = pool.copy();
    copy.take(ip('10.0.0.2'));
    expect(pool.toRecord()).toEqual(before);
    expect(copy.lowestFree()).toBe('10.0.0.3');
  });

  it('covers the first 65,536 addresses of a /8 and gives none beyond', () => {
    const pool = freshPool('10.0.0.0/8');
    const beyond = ip('10.1.0.0');
    expect([pool.covers(ip('10.0.255.255')), pool.covers(beyond)]).toEqual([true, false]);
    const before = pool.toRecord();
    pool.take(beyond);
    expect(pool.isTaken(beyond)).toBe(false);
    pool.free(beyond);
    expect(pool.toRecord()).toEqual(before);
    expect(pool.isUsable(beyond)).toBe(true);
    expect(pool.isUsable(ip('10.255.255.255'))).toBe(false);
    const got = drain(pool);
    expect(got).toHaveLength(COVERED_MAX - 2);
    expect(got.at(-1)).toBe('10.0.255.255');
  });

  it.each(['9.255.255.255', '10.0.1.0', 'fd00::2'])('knows %s as none of 10.0.0.0/24', text => {
    const pool = freshPool('10.0.0.0/24');
    const address = ip(text);
    expect([pool.covers(address), pool.isTaken(address), pool.isUsable(address)]).toEqual([
      false,
      false,
      false,
    ]);
    expect(() => pool.take(address)).toThrow(InvalidError);
    expect(() => pool.free(address)).toThrow(`address ${address} is outside the range 10.0.0.0/24`);
  });
});
