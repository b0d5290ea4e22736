/**
 * Ids, names and addresses as branded strings: made only by their parse function, believed everywhere else.
 * Each parse function throws InvalidError with the name of the field that it was asked to read.
 */
import { randomUUID } from 'node:crypto';
import { isIP, isIPv4 } from 'node:net';
import { inspect } from 'node:util';
import { InvalidError } from './errors.js';

declare const brand: unique symbol;
type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** UUID in lower case. */
export type NetworkId = Brand<string, 'NetworkId'>;
/** UUID in lower case. */
export type EndpointId = Brand<string, 'EndpointId'>;
/** A host's name as the cluster knows it: part of etcd keys, so without a slash. */
export type HostName = Brand<string, 'HostName'>;
/** VXLAN network identifier, 1 to 2^24 - 1 (RFC 7348 section 5). */
export type Vni = Brand<number, 'Vni'>;
/** Six octets in lower-case hex with colons. */
export type MacAddress = Brand<string, 'MacAddress'>;
/** An IPv4 or IPv6 address in its canonical text. */
export type IpAddress = Brand<string, 'IpAddress'>;
/** A network range without host bits, `10.0.0.0/24`. */
export type Cidr = Brand<string, 'Cidr'>;
/** An address with the prefix length of its network, `10.0.0.2/24`. */
export type InterfaceAddress = Brand<string, 'InterfaceAddress'>;
/** At most 15 bytes: IFNAMSIZ is 16 with its NUL (linux/if.h). */
export type IfName = Brand<string, 'IfName'>;
/** Absolute path of a file that a network namespace is bound to. */
export type NetnsPath = Brand<string, 'NetnsPath'>;

export const VNI_MAX = 0xff_ffff; // 24 bits: RFC 7348 section 5
const NAME_MAX_BYTES = 255; // chosen: a name is part of an etcd key and of one terminal line

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

function show(value: unknown): string {
  const text = typeof value === 'string' ? JSON.stringify(value) : inspect(value, { depth: 2 });
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/** Bad input at `field`: what was found and what would be right. */
export function invalid(field: string, value: unknown, expected: string): InvalidError {
  const found = value === undefined ? 'missing' : show(value);
  return new InvalidError(`${field} is ${found}; it must be ${expected}`, { field });
}

function parseText(value: unknown, field: string, expected: string): string {
  if (typeof value !== 'string' || value === '') throw invalid(field, value, expected);
  return value;
}

function parseUuid(value: unknown, field: string): string {
  const expected = 'a UUID such as 6ffc3990-b212-47f2-a5d1-2afe7526e548';
  const text = parseText(value, field, expected).toLowerCase();
  if (!UUID.test(text)) throw invalid(field, value, expected);
  return text;
}

export const parseNetworkId = (value: unknown, field = 'network_id') => parseUuid(value, field) as NetworkId;
export const parseEndpointId = (value: unknown, field = 'endpoint_id') =>
  parseUuid(value, field) as EndpointId;
export const newNetworkId = () => randomUUID() as NetworkId;
export const newEndpointId = () => randomUUID() as EndpointId;
export const isNetworkId = (text: string): text is NetworkId => UUID.test(text);

/** A network's name: printable, without slash or surrounding blanks, at most 255 bytes. */
export function parseNetworkName(value: unknown, field = 'name'): string {
  const expected = `1 to ${NAME_MAX_BYTES} printable bytes without a slash`;
  const text = parseText(value, field, expected);
  // Controls, formats such as bidi overrides, lone surrogates and the like are no names.
  if (/[/\p{C}\p{Zl}\p{Zp}]/u.test(text) || text.trim() !== text) throw invalid(field, value, expected);
  if (Buffer.byteLength(text) > NAME_MAX_BYTES) throw invalid(field, value, expected);
  return text;
}

const HOST_NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,252}$/;
export const isHostName = (text: string): text is HostName => HOST_NAME.test(text);

export function parseHostName(value: unknown, field = 'hostname'): HostName {
  const expected = 'a host name of letters, digits, dots, dashes and underscores, at most 253';
  const text = parseText(value, field, expected);
  if (!isHostName(text)) throw invalid(field, value, expected);
  return text;
}

export function parseVni(value: unknown, field = 'vxlan_vni'): Vni {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > VNI_MAX) {
    throw invalid(field, value, `a whole number from 1 to ${VNI_MAX}`);
  }
  return value as Vni;
}

/** A unicast MAC address in any case, with colons. */
export function parseMacAddress(value: unknown, field = 'mac_address'): MacAddress {
  const expected = 'a unicast MAC address such as 02:84:0a:00:00:02';
  const text = parseText(value, field, expected).toLowerCase();
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(text)) throw invalid(field, value, expected);
  const first = Number.parseInt(text.slice(0, 2), 16);
  if (first & 1 || text === '00:00:00:00:00:00') throw invalid(field, value, expected);
  return text as MacAddress;
}

/** An IPv4 or IPv6 literal. IPv6 is brought to its canonical text. */
export function parseIpAddress(value: unknown, field = 'address'): IpAddress {
  const expected = 'an IP address such as 10.0.0.2';
  const text = parseText(value, field, expected);
  if (isIPv4(text)) return text as IpAddress;
  if (isIP(text) !== 6 || text.includes('%')) throw invalid(field, value, expected);
  return new URL(`http://[${text}]/`).hostname.slice(1, -1) as IpAddress;
}

/** An IPv4 literal: where pools and defaults are concerned, IPv6 is not supported yet. */
export function parseIpv4(value: unknown, field = 'address'): IpAddress {
  const address = parseIpAddress(value, field);
  if (isIPv4(address)) return address;
  throw new InvalidError(`${field} is ${show(value)}; IPv6 is not supported yet, give an IPv4 address`, {
    field,
  });
}

/** Text `10.0.0.2/24` → its two halves; no statement about host bits. */
export function parseInterfaceAddress(value: unknown, field = 'address'): InterfaceAddress {
  const expected = 'an address with its prefix length such as 10.0.0.2/24';
  const text = parseText(value, field, expected);
  const [address, length, more] = text.split('/');
  if (more !== undefined || length === undefined || !/^\d{1,3}$/.test(length)) {
    throw invalid(field, value, expected);
  }
  const ip = parseIpAddress(address, field);
  if (Number(length) > (isIPv4(ip) ? 32 : 128)) throw invalid(field, value, expected);
  return `${ip}/${Number(length)}` as InterfaceAddress;
}

/** The address of `10.0.0.2/24`. */
export const addressOf = (address: InterfaceAddress | Cidr) => address.split('/')[0] as IpAddress;
/** The prefix length of `10.0.0.2/24`. */
export const prefixLengthOf = (address: InterfaceAddress | Cidr) => Number(address.split('/')[1]);

export function parseIfName(value: unknown, field = 'interface'): IfName {
  const expected = 'an interface name of 1 to 15 bytes without slash, colon or blank';
  const text = parseText(value, field, expected);
  // The kernel takes % for a template of names.
  const bad = Buffer.byteLength(text) > 15 || /[/:%\s\p{C}]/u.test(text) || text === '.' || text === '..';
  if (bad) throw invalid(field, value, expected);
  return text as IfName;
}

export function parseNetnsPath(value: unknown, field = 'ns_handle_path'): NetnsPath {
  const expected = 'an absolute path of a network namespace file';
  const text = parseText(value, field, expected);
  if (!text.startsWith('/') || /[\p{Cc}\p{Cs}]/u.test(text) || Buffer.byteLength(text) > 4095) {
    throw invalid(field, value, expected);
  }
  return text as NetnsPath;
}
