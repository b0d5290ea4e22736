/** Arithmetic on IPv4 ranges: the only place where addresses become numbers. */
import { IPv4CidrRange } from 'ip-num';
import { InvalidError } from '../model/errors.js';
import {
  addressOf,
  type Cidr,
  type InterfaceAddress,
  type IpAddress,
  invalid,
  type MacAddress,
  parseInterfaceAddress,
  parseIpv4,
  prefixLengthOf,
} from '../model/scalars.js';

// Chosen by us.
const PREFIX_MIN = 8; // a shorter prefix is no private range (RFC 1918)
const PREFIX_MAX = 30; // beyond, nothing is left beside network, gateway and broadcast address
const RECENT_MAX = 1_000; // a few hundred bytes each

export interface Range {
  readonly cidr: Cidr;
  readonly prefixLength: number;
  /** 2^(32 - prefix): with network and broadcast address. */
  readonly size: number;
  /** The network address as a number. */
  readonly first: number;
}

/** Ranges are few, and parsed for every endpoint. */
const recent = new Map<string, Range>();

/** @throws InvalidError: no IPv4 range from /8 to /30, or one with host bits. */
export function parseRange(value: unknown, field = 'ip_range'): Range {
  const known = typeof value === 'string' ? recent.get(value) : undefined;
  if (known) return known;
  const expected = `an IPv4 range from /${PREFIX_MIN} to /${PREFIX_MAX} such as 10.0.0.0/24`;
  if (typeof value !== 'string' || !value.includes('/')) throw invalid(field, value, expected);
  const text = parseInterfaceAddress(value, field);
  const address = parseIpv4(addressOf(text), field);
  const prefixLength = prefixLengthOf(text);
  if (prefixLength < PREFIX_MIN || prefixLength > PREFIX_MAX) throw invalid(field, value, expected);
  const network = IPv4CidrRange.fromCidr(text).getFirst();
  if (network.toString() !== address) {
    const meant = `${network}/${prefixLength}`;
    throw new InvalidError(`${field} is ${text}, which has host bits; did you mean ${meant}?`, { field });
  }
  const cidr = text as string as Cidr;
  const range = { cidr, prefixLength, size: 2 ** (32 - prefixLength), first: Number(network.value) };
  if (recent.size >= RECENT_MAX) recent.clear();
  recent.set(cidr, range);
  return range;
}

/**
 * `parseRange(cidr).size`, for thousands of ranges at once: each takes `parseRange` a tenth of a millisecond.
 * Undefined: of a length that no agent of ours makes, or IPv6.
 */
export function sizeOf(cidr: Cidr): number | undefined {
  const length = prefixLengthOf(cidr);
  return length >= PREFIX_MIN && length <= PREFIX_MAX && !cidr.includes(':') ? 2 ** (32 - length) : undefined;
}

/** Address number `n` of the range: inverse of `numberOf`. A number outside the range is the caller's defect. */
export function addressAt(range: Range, n: number): IpAddress {
  if (!(n >= 0 && n < range.size)) throw new RangeError(`${range.cidr} has no address number ${n}`);
  const value = range.first + n;
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}` as IpAddress;
}

/** @throws InvalidError: outside the range. */
export function numberOf(range: Range, address: IpAddress, field = 'address'): number {
  const n = findNumberOf(range, address);
  if (n !== undefined) return n;
  throw new InvalidError(`${field} ${address} is outside the range ${range.cidr}`, {
    field,
    address,
    ip_range: range.cidr,
  });
}

export const contains = (range: Range, address: IpAddress) => findNumberOf(range, address) !== undefined;

/** Like `numberOf`; undefined outside the range. */
export function findNumberOf(range: Range, address: IpAddress): number | undefined {
  if (address.includes(':')) return undefined;
  let value = 0;
  for (const byte of address.split('.')) value = value * 256 + Number(byte);
  const n = value - range.first;
  return n >= 0 && n < range.size ? n : undefined;
}

/** `10.0.0.2` → `10.0.0.2/24`. */
export const withPrefix = (range: Range, address: IpAddress) =>
  `${address}/${range.prefixLength}` as InterfaceAddress;

/**
 * A host address of the range, given with the range's prefix length or without one.
 * @throws InvalidError: outside, of another prefix length, or the network or broadcast address.
 */
export function parseHostAddress(range: Range, value: unknown, field: string): InterfaceAddress {
  const bare = typeof value === 'string' && !value.includes('/');
  const given = bare ? undefined : parseInterfaceAddress(value, field);
  const address = parseIpv4(given === undefined ? value : addressOf(given), field);
  if (given !== undefined && prefixLengthOf(given) !== range.prefixLength) {
    throw invalid(field, value, `an address of ${range.cidr}, with that prefix length or none`);
  }
  const n = numberOf(range, address, field);
  if (n === 0 || n === range.size - 1) {
    throw invalid(field, value, `a host address of ${range.cidr}, not its network or broadcast address`);
  }
  return withPrefix(range, address);
}

/** A network's gateway; by default the first address of its range. @throws InvalidError as `parseHostAddress`. */
export const parseGateway = (range: Range, value: unknown, field = 'gateway'): InterfaceAddress =>
  value === undefined ? withPrefix(range, addressAt(range, 1)) : parseHostAddress(range, value, field);

export const overlaps = (a: Range, b: Range) => a.first < b.first + b.size && b.first < a.first + a.size;

/** `02:84:` and the four bytes of the IPv4 address, as every agent derives it. */
export function macFor(address: IpAddress): MacAddress {
  const bytes = address.split('.').map(byte => Number(byte).toString(16).padStart(2, '0'));
  return `02:84:${bytes.join(':')}` as MacAddress;
}
