/** Requests about the addresses of interfaces. */
import { addressOf, type InterfaceAddress, prefixLengthOf } from '../../model/scalars.js';
import { attributesOf, ipBytes, ipText, type Message } from './codec.js';
import type { Request } from './conn.js';
import * as k from './constants.js';

const familyOf = (bytes: Buffer) => (bytes.length === 4 ? k.AF_INET : k.AF_INET6);

/** Like: ip address replace ADDRESS brd + dev INDEX */
export function newAddress(index: number, address: InterfaceAddress): Request {
  const ip = ipBytes(addressOf(address));
  const length = prefixLengthOf(address);
  return {
    type: k.RTM_NEWADDR,
    flags: k.NLM_F_CREATE | k.NLM_F_REPLACE,
    what: `address add ${address} dev index ${index}`,
    write: writer => {
      writer.u8(familyOf(ip)).u8(length).u8(0).u8(0).u32(index);
      writer.attribute(k.IFA_LOCAL, ip).attribute(k.IFA_ADDRESS, ip);
      if (ip.length === 4) writer.attribute(k.IFA_BROADCAST, broadcastOf(ip, length));
    },
  };
}

function broadcastOf(ip: Buffer, length: number): Buffer {
  const broadcast = Buffer.alloc(4);
  broadcast.writeUInt32BE((ip.readUInt32BE(0) | (length === 0 ? -1 : 2 ** (32 - length) - 1)) >>> 0);
  return broadcast;
}

/** Like: ip address show */
export const getAddresses: Request = {
  type: k.RTM_GETADDR,
  flags: 0,
  what: 'address show',
  write: writer => writer.u8(0).u8(0).u8(0).u8(0).u32(0),
};

export interface FoundAddress {
  readonly index: number;
  readonly address: InterfaceAddress;
}

export function parseAddress(message: Message): FoundAddress | undefined {
  if (message.type !== k.RTM_NEWADDR) return undefined;
  const attributes = attributesOf(message.payload, 8);
  const ip = attributes.get(k.IFA_LOCAL) ?? attributes.get(k.IFA_ADDRESS);
  if (!ip) return undefined;
  return {
    index: message.payload.readUInt32LE(4),
    address: `${ipText(ip)}/${message.payload[1]}` as InterfaceAddress,
  };
}

/**
 * Like: ip link set dev DEV addrgenmode none. Before it comes up; a kernel without IPv6 has nothing to switch off.
 */
export const setNoLinkLocal = (index: number): Request => ({
  type: k.RTM_SETLINK,
  flags: 0,
  what: `link set dev ${index} addrgenmode none`,
  expected: [k.EAFNOSUPPORT],
  write: writer =>
    writer
      .ifinfo(index)
      .nested(k.IFLA_AF_SPEC, families =>
        families.nested(k.AF_INET6, inet6 =>
          inet6.attributeU8(k.IFLA_INET6_ADDR_GEN_MODE, k.IN6_ADDR_GEN_MODE_NONE),
        ),
      ),
});
