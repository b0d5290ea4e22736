import fc from 'fast-check';
import {
  addressAt,
  contains,
  findNumberOf,
  macFor,
  numberOf,
  overlaps,
  parseGateway,
  parseRange,
  sizeOf,
  withPrefix,
} from '../../ipam/range.js';
import { InvalidError } from '../../model/errors.js';
import { type Cidr, type IpAddress, parseIpAddress } from '../../model/scalars.js';

const ip = (text: string): IpAddress => parseIpAddress(text);
const prefixes = Array.from({ length: 30 - 8 + 1 }, (_, i) => 8 + i);
/** A random range of the prefix length, without host bits. */
const anyRange = (prefixLength: number) =>
  fc.nat(2 ** prefixLength - 1).map(network => {
    const first = network * 2 ** (32 - prefixLength);
    const bytes = [24, 16, 8, 0].map(shift => Math.floor(first / 2 ** shift) % 256);
    return parseRange(`${bytes.join('.')}/${prefixLength}`);
  });

describe('parseRange()', () => {
  it.each([
    ['10.0.0.0/24', 24, 256],
    ['10.0.0.0/8', 8, 16_777_216],
    ['192.168.4.0/22', 22, 1_024],
    ['10.0.0.252/30', 30, 4],
    ['255.255.255.0/24', 24, 256],
    ['172.16.0.0/12', 12, 1_048_576],
  ])('%s has prefix length %d and %d addresses', (cidr, prefixLength, size) => {
    expect(parseRange(cidr)).toMatchObject({ cidr, prefixLength, size });
    expect(sizeOf(cidr as Cidr)).toBe(size);
  });

  it.each(['10.0.0.0/31', '10.0.0.0/7', '10.0.0.0', 'fd00::/16'])('%s has no size', cidr => {
    expect(sizeOf(cidr as Cidr)).toBeUndefined();
  });

  it('brings a prefix length with a leading zero to its canonical text', () => {
    expect(parseRange('10.0.0.0/024').cidr).toBe('10.0.0.0/24');
  });

  it.each([
    ['10.0.0.7/24', 'my_range is 10.0.0.7/24, which has host bits; did you mean 10.0.0.0/24?'],
    ['10.0.1.0/23', 'my_range is 10.0.1.0/23, which has host bits; did you mean 10.0.0.0/23?'],
    ['10.128.0.0/8', 'did you mean 10.0.0.0/8?'],
    ['fd00::/64', 'IPv6 is not supported yet'],
    ['::ffff:10.0.0.0/120', 'IPv6 is not supported yet'],
    ['10.0.0.0/7', 'from /8 to /30'],
    ['10.0.0.0/31', 'from /8 to /30'],
    ['10.0.0.1/32', 'from /8 to /30'],
    ['0.0.0.0/0', 'from /8 to /30'],
    ['10.0.0.0/33', 'my_range is "10.0.0.0/33"'],
    ['10.0.0.0', 'such as 10.0.0.0/24'],
    ['10.0.0.0/', 'my_range is'],
    ['10.0.0.0/24/24', 'my_range is'],
    ['10.0.0.0/-8', 'my_range is'],
    ['10.0.0/24', 'my_range is'],
    ['010.0.0.0/24', 'my_range is'],
    [' 10.0.0.0/24', 'my_range is'],
    ['', 'my_range is ""'],
    [undefined, 'my_range is missing'],
    [24, 'my_range is 24'],
    [{ cidr: '10.0.0.0/24' }, 'my_range is'],
  ])('refuses %j: %s', (value, text) => {
    const act = () => parseRange(value, 'my_range');
    expect(act).toThrow(InvalidError);
    expect(act).toThrow(text);
    expect(act).toThrow(expect.objectContaining({ facts: expect.objectContaining({ field: 'my_range' }) }));
  });
});

describe('addressAt() and numberOf()', () => {
  it.each([
    ['10.0.0.0/24', 2, '10.0.0.2'],
    ['10.0.0.0/16', 2, '10.0.0.2'],
    ['10.0.0.0/16', 256, '10.0.1.0'],
    ['10.0.0.0/16', 261, '10.0.1.5'],
    ['10.0.0.0/8', 16_777_215, '10.255.255.255'],
    ['255.255.255.252/30', 3, '255.255.255.255'],
    ['192.168.0.128/25', 127, '192.168.0.255'],
  ])('in %s number %d is %s', (cidr, n, address) => {
    expect(addressAt(parseRange(cidr), n)).toBe(address);
    expect(numberOf(parseRange(cidr), ip(address))).toBe(n);
  });

  // Agents of the original add the host bytes with weights 1, 2, 3, …: 10.0.0.2 and 10.0.1.0 share bit 2.
  it('numberOf() tells apart what the ordinals of the original confuse', () => {
    const range = parseRange('10.0.0.0/16');
    expect(numberOf(range, ip('10.0.0.2'))).not.toBe(numberOf(range, ip('10.0.1.0')));
    expect(numberOf(range, ip('10.0.0.7'))).not.toBe(numberOf(range, ip('10.0.1.5')));
  });

  it.each(prefixes)('are inverse to each other in every /%d', prefixLength => {
    const numbered = anyRange(prefixLength).chain(range =>
      fc.nat(range.size - 1).map(n => ({ range, n, address: addressAt(range, n) })),
    );
    fc.assert(
      fc.property(numbered, ({ range, n, address }) => {
        expect(ip(address)).toBe(address);
        expect(numberOf(range, address)).toBe(n);
        expect(contains(range, address)).toBe(true);
      }),
    );
  });

  it('give every address of a range its own number', () => {
    const range = parseRange('10.1.252.0/22');
    const addresses = Array.from({ length: range.size }, (_, n) => addressAt(range, n));
    expect(new Set(addresses).size).toBe(range.size);
    expect(addresses.map(address => numberOf(range, address))).toEqual(addresses.map((_, n) => n));
  });

  it.each([-1, 256, 2 ** 32, 1e300, Number.NaN])('addressAt() never answers outside the range: %d', n => {
    expect(() => addressAt(parseRange('10.0.0.0/24'), n)).toThrow(RangeError);
  });

  it.each(['9.255.255.255', '10.0.1.0', '255.255.255.255', '0.0.0.0', 'fd00::2', '::ffff:10.0.0.2'])(
    'numberOf() refuses %s for 10.0.0.0/24 and names both',
    address => {
      const range = parseRange('10.0.0.0/24');
      const parsed = ip(address);
      expect(contains(range, parsed)).toBe(false);
      expect(findNumberOf(range, parsed)).toBeUndefined();
      const act = () => numberOf(range, parsed, 'ipv4_address');
      expect(act).toThrow(InvalidError);
      expect(act).toThrow(`ipv4_address ${parsed} is outside the range 10.0.0.0/24`);
    },
  );
});

describe('parseGateway()', () => {
  it.each([
    ['10.0.0.0/24', undefined, '10.0.0.1/24'],
    ['10.0.0.128/30', undefined, '10.0.0.129/30'],
    ['10.0.0.0/24', '10.0.0.254', '10.0.0.254/24'],
    ['10.0.0.0/24', '10.0.0.254/24', '10.0.0.254/24'],
    ['10.0.0.0/16', '10.0.1.0', '10.0.1.0/16'],
    ['10.0.0.0/8', '10.200.0.1', '10.200.0.1/8'],
  ])('in %s, given %s, is %s', (cidr, value, gateway) => {
    expect(parseGateway(parseRange(cidr), value)).toBe(gateway);
  });

  it.each([
    ['10.0.0.0', 'not its network or broadcast address'],
    ['10.0.0.255/24', 'not its network or broadcast address'],
    ['10.0.1.1', 'gateway 10.0.1.1 is outside the range 10.0.0.0/24'],
    ['10.0.0.1/16', 'an address of 10.0.0.0/24, with that prefix length or none'],
    ['fd00::1', 'IPv6 is not supported yet'],
    ['fd00::1/64', 'IPv6 is not supported yet'],
    ['10.0.0.1/', 'gateway is "10.0.0.1/"'],
    ['gateway.example', 'gateway is "gateway.example"'],
    ['', 'gateway is ""'],
    [null, 'gateway is null'],
    [1, 'gateway is 1'],
  ])('refuses %j in 10.0.0.0/24: %s', (value, text) => {
    const act = () => parseGateway(parseRange('10.0.0.0/24'), value);
    expect(act).toThrow(InvalidError);
    expect(act).toThrow(text);
    expect(act).toThrow(expect.objectContaining({ facts: expect.objectContaining({ field: 'gateway' }) }));
  });
});

describe('overlaps()', () => {
  it.each([
    ['10.0.0.0/24', '10.0.0.0/24', true],
    ['10.0.0.0/16', '10.0.7.0/24', true],
    ['10.0.0.0/24', '10.0.0.252/30', true],
    ['10.0.0.0/24', '10.0.1.0/24', false],
    ['10.0.0.0/25', '10.0.0.128/25', false],
    ['10.0.0.0/8', '11.0.0.0/8', false],
    ['255.0.0.0/8', '0.0.0.0/8', false],
  ])('%s and %s: %s, in both orders', (a, b, expected) => {
    expect(overlaps(parseRange(a), parseRange(b))).toBe(expected);
    expect(overlaps(parseRange(b), parseRange(a))).toBe(expected);
  });
});

it('withPrefix() adds the prefix length of the range', () => {
  expect(withPrefix(parseRange('10.0.0.0/22'), ip('10.0.3.2'))).toBe('10.0.3.2/22');
});

it.each([
  ['10.0.0.2', '02:84:0a:00:00:02'],
  ['255.16.1.0', '02:84:ff:10:01:00'],
])('macFor(%s) is %s', (address, mac) => {
  expect(macFor(ip(address))).toBe(mac);
});
