import fc from 'fast-check';
import { InvalidError } from '../../model/errors.js';
import {
  addressOf,
  isNetworkId,
  newEndpointId,
  newNetworkId,
  parseEndpointId,
  parseHostName,
  parseIfName,
  parseInterfaceAddress,
  parseIpAddress,
  parseIpv4,
  parseMacAddress,
  parseNetnsPath,
  parseNetworkId,
  parseNetworkName,
  parseVni,
  prefixLengthOf,
  VNI_MAX,
} from '../../model/scalars.js';

const UUID = '6ffc3990-b212-47f2-a5d1-2afe7526e548';

interface Table {
  readonly parse: (value: unknown, field?: string) => unknown;
  /** What is given and what comes of it. */
  readonly good: readonly (readonly [unknown, unknown])[];
  readonly bad: readonly unknown[];
}

const same = (...values: readonly unknown[]) => values.map(value => [value, value] as const);
const NO_TEXT = ['', undefined, null, 7, true, {}, [], ['10.0.0.2']];
const BAD_UUIDS = [
  ...NO_TEXT,
  'n7',
  `${UUID}0`,
  `{${UUID}}`,
  ` ${UUID}`,
  `${UUID}\n`,
  UUID.replace('6', 'g'),
];

const tables: Readonly<Record<string, Table>> = {
  'parseNetworkId()': {
    parse: parseNetworkId,
    good: [...same(UUID), [UUID.toUpperCase(), UUID]],
    bad: BAD_UUIDS,
  },
  'parseEndpointId()': {
    parse: parseEndpointId,
    good: [...same(UUID), [UUID.toUpperCase(), UUID]],
    bad: BAD_UUIDS,
  },
  'parseNetworkName()': {
    parse: parseNetworkName,
    good: same('web', 'net-sc-7', 'zwei Wörter', '网络', 'x'.repeat(255), '..', `net-sc-${UUID}`),
    bad: [...NO_TEXT, 'a/b', '/', ' web', 'web ', 'a\nb', 'a\0b', '\x7f', 'x'.repeat(256), 'ö'.repeat(128)],
  },
  'parseHostName()': {
    parse: parseHostName,
    good: same('host1', 'host-1.example.com', 'HOST_1', '_x', '1', 'x'.repeat(253)),
    bad: [...NO_TEXT, 'a/b', '-host', '.host', 'a b', 'host\n', 'hôte', 'a:b', 'x'.repeat(254)],
  },
  'parseVni()': {
    parse: parseVni,
    good: same(1, 4242, 999_999, VNI_MAX),
    bad: [...NO_TEXT.filter(value => value !== 7), 0, -0, -1, 1.5, VNI_MAX + 1, NaN, Infinity, '7'],
  },
  'parseMacAddress()': {
    parse: parseMacAddress,
    good: [
      ...same('02:84:0a:00:00:02', 'fe:ff:ff:ff:ff:ff', '00:00:00:00:00:01'),
      ['02:84:0A:00:00:FF', '02:84:0a:00:00:ff'],
    ],
    bad: [
      ...NO_TEXT,
      '01:00:5e:00:00:01',
      'ff:ff:ff:ff:ff:ff',
      '00:00:00:00:00:00',
      '02-84-0a-00-00-02',
      '02840a000002',
      '02:84:0a:00:00',
      '02:84:0a:00:00:02:03',
      '2:84:a:0:0:2',
      '02:84:0a:00:00:0g',
      '02:84:0a:00:00:02\n',
    ],
  },
  'parseIpAddress()': {
    parse: parseIpAddress,
    good: [
      ...same('10.0.0.2', '0.0.0.0', '255.255.255.255', 'fd00::1', '::', '2001:db8::1:0:0:1'),
      ['FD00:0:0:0:0:0:0:1', 'fd00::1'],
      ['2001:0db8:0000:0001:0000:0000:0000:0001', '2001:db8:0:1::1'],
      ['::ffff:10.0.0.2', '::ffff:a00:2'],
      ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ],
    bad: [
      ...NO_TEXT,
      '10.0.0',
      '10.0.0.256',
      '10.0.0.02',
      '010.0.0.2',
      '0x0a.0.0.2',
      '167772162',
      ' 10.0.0.2',
      '10.0.0.2\n',
      '10.0.0.2/24',
      '10.0.0.2:80',
      'fe80::1%eth0',
      '[::1]',
      ':::',
      'localhost',
    ],
  },
  'parseIpv4()': {
    parse: parseIpv4,
    good: same('10.0.0.2', '192.168.1.255'),
    bad: [...NO_TEXT, '10.0.0.300', 'fd00::1', '::ffff:10.0.0.2', '10.0.0.2/24'],
  },
  'parseInterfaceAddress()': {
    parse: parseInterfaceAddress,
    good: [
      ...same('10.0.0.2/24', '10.0.0.0/8', '0.0.0.0/0', '10.0.0.2/32', 'fd00::2/64', '::/0', 'fd00::2/128'),
      ['10.0.0.2/024', '10.0.0.2/24'],
      ['FD00:0:0::2/64', 'fd00::2/64'],
    ],
    bad: [
      ...NO_TEXT,
      '10.0.0.2',
      '10.0.0.2/',
      '/24',
      '10.0.0.2/33',
      '10.0.0.2/-1',
      '10.0.0.2/2.4',
      '10.0.0.2/24/24',
      '10.0.0.2/24 ',
      '10.0.0.2/255.255.255.0',
      '10.0.0.256/24',
      'fd00::2/129',
      'fd00::2/1280',
    ],
  },
  'parseIfName()': {
    parse: parseIfName,
    good: same('sand0', 'eth0', 'veth-0.1', 'x'.repeat(15), 'ü'.repeat(7)),
    bad: [...NO_TEXT, '.', '..', 'a/b', 'a:b', 'a b', 'a\tb', 'x'.repeat(16), 'ü'.repeat(8)],
  },
  'parseNetnsPath()': {
    parse: parseNetnsPath,
    good: same('/run/netns/sc-ns-7', '/proc/42/ns/net', `/${'x'.repeat(4094)}`),
    bad: [...NO_TEXT, 'run/netns/x', './x', '/run/\0', `/${'x'.repeat(4095)}`],
  },
};

const goodRows = Object.entries(tables).flatMap(([name, { parse, good }]) =>
  good.map(([value, expected]) => ({ name, parse, value, expected })),
);
const badRows = Object.entries(tables).flatMap(([name, { parse, bad }]) =>
  bad.map(value => ({ name, parse, value })),
);

it.each(goodRows)('$name takes $value as $expected', ({ parse, value, expected }) => {
  expect(parse(value)).toBe(expected);
});

it.each(goodRows)('$name takes its own result for $value unchanged', ({ parse, value }) => {
  expect(parse(parse(value))).toBe(parse(value));
});

it.each(badRows)('$name refuses $value and names the field', ({ parse, value }) => {
  const act = () => parse(value, 'my_field');
  expect(act).toThrow(InvalidError);
  expect(act).toThrow(expect.objectContaining({ facts: { field: 'my_field' } }));
  expect(act).toThrow(/^my_field is /);
});

it('an error shows at most the beginning of a long value', () => {
  expect(() => parseHostName('x y '.repeat(5_000))).toThrow(/^.{80,250}$/);
});

it('newNetworkId() and newEndpointId() give ids that their parse functions take', () => {
  const [network, endpoint] = [newNetworkId(), newEndpointId()];
  expect(parseNetworkId(network)).toBe(network);
  expect(parseEndpointId(endpoint)).toBe(endpoint);
  expect(isNetworkId(network)).toBe(true);
});

it.each(['', 'n7', UUID.toUpperCase()])('isNetworkId(%j) is false', text => {
  expect(isNetworkId(text)).toBe(false);
});

it('addressOf() and prefixLengthOf() take an interface address apart again', () => {
  const lengths = { v4: fc.integer({ min: 0, max: 32 }), v6: fc.integer({ min: 0, max: 128 }) };
  const parts = fc.oneof(fc.tuple(fc.ipV4(), lengths.v4), fc.tuple(fc.ipV6(), lengths.v6));
  fc.assert(
    fc.property(parts, ([address, length]) => {
      const parsed = parseInterfaceAddress(`${address}/${length}`);
      expect(addressOf(parsed)).toBe(parseIpAddress(address));
      expect(prefixLengthOf(parsed)).toBe(length);
    }),
  );
});
