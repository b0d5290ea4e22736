import fc from 'fast-check';
import { Bitmap } from '../../ipam/bitmap.js';
import { InvalidError } from '../../model/errors.js';

/** A fresh 10.0.0.0/24 with gateway .1, after two endpoints: from the description of the etcd layout. */
const EXAMPLE = 'AAAAAAAAAQAAAAAAAAAADwAAAAAAAAAAAAAAAAAAAACAAAAAAAAAAA==';

/** The encoding by its description, in big integers and without any shortcut. */
function reference(length: number, bits: ReadonlySet<number>): string {
  const words = Array.from({ length: Math.ceil(length / 64) }, () => 0n);
  for (const bit of bits) {
    const word = Math.floor(bit / 64);
    words[word] = (words[word] ?? 0n) | (1n << BigInt(bit % 64));
  }
  const hex = [BigInt(length), ...words].map(word => word.toString(16).padStart(16, '0')).join('');
  return Buffer.from(hex, 'hex').toString('base64').replaceAll('+', '-').replaceAll('/', '_');
}

function bitmapOf(length: number, bits: Iterable<number>): Bitmap {
  const bitmap = Bitmap.empty(length);
  for (const bit of bits) bitmap.set(bit);
  return bitmap;
}

const all = (length: number) => Array.from({ length }, (_, bit) => bit);

const anyBits = fc
  .integer({ min: 1, max: 700 })
  .chain(length => fc.record({ length: fc.constant(length), bits: fc.uniqueArray(fc.nat(length - 1)) }));

describe('Bitmap', () => {
  it('encode() gives the bytes of the described example', () => {
    expect(bitmapOf(256, [0, 1, 2, 3, 255]).encode()).toBe(EXAMPLE);
  });

  it('decode() reads the described example', () => {
    const bitmap = Bitmap.decode(EXAMPLE, 256);
    expect(all(256).filter(bit => bitmap.get(bit))).toEqual([0, 1, 2, 3, 255]);
    expect(bitmap).toMatchObject({ length: 256, count: 5 });
  });

  it('encode() and decode() are inverse and follow the description, at any length', () => {
    fc.assert(
      fc.property(anyBits, ({ length, bits }) => {
        const text = bitmapOf(length, bits).encode();
        expect(text).toBe(reference(length, new Set(bits)));
        const decoded = Bitmap.decode(text, length);
        expect(all(length).filter(bit => decoded.get(bit))).toEqual([...bits].sort((a, b) => a - b));
        expect(decoded.encode()).toBe(text);
        expect(decoded.count).toBe(bits.length);
      }),
    );
  });

  it('encode() uses the alphabet of URLs', () => {
    expect(bitmapOf(64, all(64)).encode()).toBe('AAAAAAAAAED__________w==');
  });

  it('encode() and decode() hold for 65,536 bits', () => {
    const bits = new Set(all(65_536).filter(bit => (bit * 7_919) % 13 < 5));
    const text = bitmapOf(65_536, bits).encode();
    expect(text).toBe(reference(65_536, bits));
    expect(Bitmap.decode(text, 65_536).count).toBe(bits.size);
  });

  it('clear() undoes set() and touches no other bit', () => {
    fc.assert(
      fc.property(anyBits, fc.nat(699), ({ length, bits }, at) => {
        const bit = at % length;
        const bitmap = bitmapOf(length, bits);
        bitmap.clear(bit);
        expect(all(length).filter(i => bitmap.get(i))).toEqual(
          all(length).filter(i => i !== bit && bits.includes(i)),
        );
      }),
    );
  });

  it('lowestClear() equals a search bit by bit, from any start', () => {
    const dense = anyBits.map(({ length, bits }) => ({
      length,
      bits: all(length).filter(bit => !bits.slice(0, 4).includes(bit)),
    }));
    fc.assert(
      fc.property(fc.oneof(anyBits, dense), fc.nat(720), ({ length, bits }, from) => {
        const taken = new Set(bits);
        const expected = all(length).find(bit => bit >= from && !taken.has(bit));
        expect(bitmapOf(length, bits).lowestClear(from)).toBe(expected);
      }),
    );
  });

  it.each([1, 4, 31, 32, 33, 63, 64, 65, 256])('lowestClear() of %d set bits is undefined', length => {
    expect(bitmapOf(length, all(length)).lowestClear()).toBeUndefined();
  });

  it('clone() shares nothing with its source', () => {
    const source = bitmapOf(64, [3]);
    const clone = source.clone();
    clone.set(4);
    source.clear(3);
    expect([source.get(3), source.get(4), clone.get(3), clone.get(4)]).toEqual([false, false, true, true]);
  });

  it.each([
    ['', 256, 'bit_set is 0 bytes'],
    ['AAAA', 256, 'bit_set is 3 bytes'],
    [EXAMPLE, 255, 'bit_set is 256 bits; it must be 255'],
    [EXAMPLE, 65_536, 'bit_set is 256 bits; it must be 65536'],
    [reference(257, new Set()), 256, 'bit_set is 257 bits; it must be 256'],
    [`${EXAMPLE.slice(0, -4)}`, 256, 'bit_set is 256 bits in 39 bytes; it must be 40 bytes'],
    [`AAAA${EXAMPLE}`, 256, 'bits'],
    [`${reference(256, new Set()).slice(0, 52)}AAAAAAAA`, 256, '256 bits in 45 bytes; it must be 40 bytes'],
    ['__________8=', 256, 'bits; it must be 256'],
    [EXAMPLE.slice(0, -2), 256, 'not base64url with padding'],
    [EXAMPLE.replace('D', '+'), 256, 'not base64url with padding'],
    [EXAMPLE.replace('D', '!'), 256, 'not base64url with padding'],
    [EXAMPLE.replace('D', ' '), 256, 'not base64url with padding'],
    [`${EXAMPLE}\n`, 256, 'not base64url with padding'],
    [`${EXAMPLE}\n\n\n\n`, 256, 'not base64url with padding'],
    ['null', 256, 'bit_set is 3 bytes'],
  ])('decode(%j, %d) is refused: %s', (text, expectedBits, message) => {
    const act = () => Bitmap.decode(text, expectedBits);
    expect(act).toThrow(InvalidError);
    expect(act).toThrow(message);
    expect(act).toThrow(
      expect.objectContaining({
        facts: { field: 'bit_set', found: expect.any(String), expected: expect.any(String) },
      }),
    );
  });
});
