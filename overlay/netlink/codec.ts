/** Netlink messages and attributes, as bytes of the machine's order (little-endian: koffi is built for no other). */
import type { IpAddress, MacAddress } from '../../model/scalars.js';
import { NLA_F_NESTED, NLA_TYPE_MASK } from './constants.js';

const NLMSG_HDRLEN = 16;
const NLA_HDRLEN = 4;
/** NLMSG_ALIGN and NLA_ALIGN (linux/netlink.h). */
const align = (length: number) => (length + 3) & ~3;

/** Writes messages one after the other into a buffer that grows. */
export class Writer {
  #buffer = Buffer.alloc(16 * 1024);
  #at = 0;
  #start = 0;

  get length(): number {
    return this.#at;
  }

  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#at);
  }

  clear(): void {
    this.#at = 0;
  }

  begin(type: number, flags: number, sequence: number): void {
    this.#room(NLMSG_HDRLEN);
    this.#start = this.#at;
    this.#buffer.writeUInt16LE(type, this.#at + 4);
    this.#buffer.writeUInt16LE(flags, this.#at + 6);
    this.#buffer.writeUInt32LE(sequence, this.#at + 8);
    this.#buffer.writeUInt32LE(0, this.#at + 12);
    this.#at += NLMSG_HDRLEN;
  }

  end(): void {
    this.#buffer.writeUInt32LE(this.#at - this.#start, this.#start);
    this.#pad();
  }

  u8(value: number): this {
    this.#room(1);
    this.#buffer[this.#at++] = value;
    return this;
  }

  u16(value: number): this {
    this.#room(2);
    this.#at = this.#buffer.writeUInt16LE(value, this.#at);
    return this;
  }

  u32(value: number): this {
    this.#room(4);
    this.#at = this.#buffer.writeUInt32LE(value >>> 0, this.#at);
    return this;
  }

  /** struct ifinfomsg (linux/rtnetlink.h). */
  ifinfo(index: number, up: boolean | undefined = undefined): this {
    this.u8(0).u8(0).u16(0).u32(index);
    return this.u32(up ? 1 : 0).u32(up === undefined ? 0 : 1);
  }

  attribute(type: number, value: Uint8Array): this {
    this.#room(NLA_HDRLEN + value.length + 3);
    this.u16(NLA_HDRLEN + value.length).u16(type);
    this.#buffer.set(value, this.#at);
    this.#at += value.length;
    this.#pad();
    return this;
  }

  attributeU8(type: number, value: number): this {
    this.u16(NLA_HDRLEN + 1)
      .u16(type)
      .u8(value);
    this.#pad();
    return this;
  }

  attributeU32(type: number, value: number): this {
    return this.u16(NLA_HDRLEN + 4)
      .u16(type)
      .u32(value);
  }

  /** A name with the NUL that the kernel's NLA_NUL_STRING wants. */
  attributeText(type: number, text: string): this {
    return this.attribute(type, Buffer.from(`${text}\0`));
  }

  nested(type: number, inside: (writer: Writer) => void): this {
    const start = this.#at;
    this.u16(0).u16(type | NLA_F_NESTED);
    inside(this);
    this.#buffer.writeUInt16LE(this.#at - start, start);
    return this;
  }

  #pad(): void {
    while (this.#at !== align(this.#at)) this.u8(0);
  }

  #room(bytes: number): void {
    if (this.#at + bytes <= this.#buffer.length) return;
    const larger = Buffer.alloc(this.#buffer.length * 2 + bytes);
    this.#buffer.copy(larger);
    this.#buffer = larger;
  }
}

export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly payload: Buffer;
}

/** The messages of one received packet. */
export function* messagesOf(packet: Buffer): Generator<Message> {
  for (let at = 0; at + NLMSG_HDRLEN <= packet.length; ) {
    const length = packet.readUInt32LE(at);
    if (length < NLMSG_HDRLEN || at + length > packet.length) return;
    yield {
      type: packet.readUInt16LE(at + 4),
      flags: packet.readUInt16LE(at + 6),
      sequence: packet.readUInt32LE(at + 8),
      payload: packet.subarray(at + NLMSG_HDRLEN, at + length),
    };
    at += align(length);
  }
}

/** A packet as words; messages and attributes begin on their borders. */
export const wordsOf = (packet: Uint8Array) =>
  new Int32Array(packet.buffer, packet.byteOffset, packet.length >> 2);

/** The attributes of a message, found in place: of some fifty that an interface has, a few are asked for. */
export class Attributes {
  readonly #bytes: Buffer;
  readonly #from: number;

  constructor(bytes: Buffer, from: number) {
    this.#bytes = bytes;
    this.#from = from;
  }

  /** A length that does not fit ends the list. */
  get(type: number): Buffer | undefined {
    const bytes = this.#bytes;
    for (let at = this.#from; at + NLA_HDRLEN <= bytes.length; ) {
      const length = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
      if (length < NLA_HDRLEN || at + length > bytes.length) return undefined;
      const found = ((bytes[at + 2] ?? 0) | ((bytes[at + 3] ?? 0) << 8)) & NLA_TYPE_MASK;
      if (found === type) return bytes.subarray(at + NLA_HDRLEN, at + length);
      at += align(length);
    }
    return undefined;
  }
}

/** The attributes from byte `from` of a payload on. */
export const attributesOf = (payload: Buffer, from: number) => new Attributes(payload, from);

const NO_ATTRIBUTES = new Attributes(Buffer.alloc(0), 0);
export const nestedOf = (bytes: Buffer | undefined) => (bytes ? attributesOf(bytes, 0) : NO_ATTRIBUTES);
export const textOf = (bytes: Buffer | undefined) => bytes?.toString('latin1').replace(/\0.*$/s, '') ?? '';
export const u32Of = (bytes: Buffer | undefined) =>
  bytes && bytes.length >= 4 ? bytes.readUInt32LE(0) : undefined;
export const u8Of = (bytes: Buffer | undefined) => bytes?.[0];

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));
export const macText = (b: Uint8Array): MacAddress =>
  `${HEX[b[0] ?? 0]}:${HEX[b[1] ?? 0]}:${HEX[b[2] ?? 0]}:${HEX[b[3] ?? 0]}:${HEX[b[4] ?? 0]}:${HEX[b[5] ?? 0]}` as MacAddress;
export function macBytes(mac: MacAddress): Buffer {
  const bytes = Buffer.alloc(6);
  writeMac(mac, bytes, 0);
  return bytes;
}

/** Of a hexadecimal digit in either case: letters have bit 6 set, and a nine less than their value below it. */
const digitOf = (code: number) => (code & 15) + (code >> 6) * 9;

/** Puts six bytes into `into`; without a text or a buffer in between, for thousands of them at once. */
export function writeMac(mac: MacAddress, into: Uint8Array, at: number): void {
  for (let i = 0; i < 6; i++) {
    into[at + i] = (digitOf(mac.charCodeAt(3 * i)) << 4) | digitOf(mac.charCodeAt(3 * i + 1));
  }
}

/** Four or sixteen bytes in network order. */
export function ipBytes(address: IpAddress): Buffer {
  const bytes = Buffer.alloc(16);
  return bytes.subarray(0, writeIp(address, bytes, 0));
}

const [DOT, COLON] = [0x2e, 0x3a];

/** Puts the bytes into `into` and answers how many: four or sixteen. */
export function writeIp(address: IpAddress, into: Uint8Array, at: number): number {
  let octet = 0;
  let to = at;
  for (let i = 0; i < address.length; i++) {
    const code = address.charCodeAt(i);
    if (code === DOT) {
      into[to++] = octet;
      octet = 0;
    } else if (code >= 0x30 && code < COLON) octet = octet * 10 + code - 0x30;
    else return writeIpv6(address, into, at);
  }
  into[to] = octet;
  return 4;
}

function writeIpv6(address: IpAddress, into: Uint8Array, at: number): number {
  const [head = '', tail] = address.split('::');
  const groups = (text: string | undefined) => (text ? text.split(':') : []);
  const [front, back] = [groups(head), groups(tail)];
  const middle = Array<string>(8 - front.length - back.length).fill('0');
  const hex = [...front, ...middle, ...back].map(group => group.padStart(4, '0')).join('');
  into.set(Buffer.from(hex, 'hex'), at);
  return 16;
}

export function ipText(bytes: Uint8Array): IpAddress {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` as IpAddress;
  const groups = Array.from(
    { length: 8 },
    (_, i) => `${HEX[bytes[2 * i] ?? 0]}${HEX[bytes[2 * i + 1] ?? 0]}`,
  );
  return new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1) as IpAddress;
}
