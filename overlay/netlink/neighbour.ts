/** Requests about neighbours: ARP entries, and forwarding entries (FDB) of VXLANs and bridges. */
import type { IpAddress, MacAddress } from '../../model/scalars.js';
import { attributesOf, ipBytes, ipText, type Message, macBytes, macText, type Writer } from './codec.js';
import type { Request } from './conn.js';
import * as k from './constants.js';

/** struct ndmsg (linux/neighbour.h). */
const ndmsg = (writer: Writer, family: number, index: number, state: number, flags: number) =>
  writer.u8(family).u8(0).u16(0).u32(index).u16(state).u8(flags).u8(0);

const SET = k.NLM_F_CREATE | k.NLM_F_REPLACE;
const familyOf = (ip: Buffer) => (ip.length === 4 ? k.AF_INET : k.AF_INET6);

/** Like: ip neigh replace IP lladdr MAC dev DEV nud permanent */
export function setArp(index: number, address: IpAddress, mac: MacAddress): Request {
  return {
    type: k.RTM_NEWNEIGH,
    flags: SET,
    what: 'neigh replace',
    write: writer => {
      const ip = ipBytes(address);
      ndmsg(writer, familyOf(ip), index, k.NUD_PERMANENT, 0);
      writer.attribute(k.NDA_DST, ip).attribute(k.NDA_LLADDR, macBytes(mac));
    },
  };
}

/** Like: ip neigh del IP dev DEV. Gone already is an answer. */
export function delArp(index: number, address: IpAddress): Request {
  return {
    type: k.RTM_DELNEIGH,
    flags: 0,
    what: `neigh del ${address}`,
    expected: [k.ENOENT],
    write: writer => {
      const ip = ipBytes(address);
      ndmsg(writer, familyOf(ip), index, 0, 0).attribute(k.NDA_DST, ip);
    },
  };
}

/** Like: bridge fdb replace MAC dev DEV dst VTEP self permanent */
export const setFdb = (index: number, mac: MacAddress, vtep: IpAddress): Request => ({
  type: k.RTM_NEWNEIGH,
  flags: SET,
  what: `fdb replace ${mac} dst ${vtep}`,
  write: writer => {
    ndmsg(writer, k.AF_BRIDGE, index, k.NUD_PERMANENT, k.NTF_SELF);
    writer.attribute(k.NDA_LLADDR, macBytes(mac)).attribute(k.NDA_DST, ipBytes(vtep));
  },
});

/** Like: bridge fdb del MAC dev DEV dst VTEP self. Deletes nothing when the MAC has moved to another VTEP. */
export const delFdb = (index: number, mac: MacAddress, vtep: IpAddress): Request => ({
  type: k.RTM_DELNEIGH,
  flags: 0,
  what: `fdb del ${mac} dst ${vtep}`,
  expected: [k.ENOENT],
  write: writer => {
    ndmsg(writer, k.AF_BRIDGE, index, 0, k.NTF_SELF);
    writer.attribute(k.NDA_LLADDR, macBytes(mac)).attribute(k.NDA_DST, ipBytes(vtep));
  },
});

/** Like: bridge fdb replace MAC dev PORT master static */
export const setStatic = (port: number, mac: MacAddress): Request => ({
  type: k.RTM_NEWNEIGH,
  flags: SET,
  what: `fdb replace ${mac} dev index ${port} master static`,
  write: writer => {
    ndmsg(writer, k.AF_BRIDGE, port, k.NUD_NOARP, k.NTF_MASTER).attribute(k.NDA_LLADDR, macBytes(mac));
  },
});

/** Like: ip neigh show dev DEV */
export const getArp = (index: number): Request => ({
  type: k.RTM_GETNEIGH,
  flags: 0,
  what: 'neigh show',
  write: writer => {
    // With strict checking the filter is an attribute; in the header it is EINVAL.
    ndmsg(writer, k.AF_INET, 0, 0, 0).attributeU32(k.NDA_IFINDEX, index);
  },
});

/** Like: bridge fdb show */
export const getFdb: Request = {
  type: k.RTM_GETNEIGH,
  flags: 0,
  what: 'fdb show',
  write: writer => {
    ndmsg(writer, k.AF_BRIDGE, 0, 0, 0);
  },
};

export interface FoundNeighbour {
  readonly index: number;
  readonly state: number;
  readonly self: boolean;
  readonly mac: MacAddress | undefined;
  /** The address of an ARP entry; the VTEP of an FDB entry. */
  readonly destination: IpAddress | undefined;
}

export function parseNeighbour(message: Message): FoundNeighbour | undefined {
  if (message.type !== k.RTM_NEWNEIGH) return undefined;
  const { payload } = message;
  const attributes = attributesOf(payload, 12);
  const mac = attributes.get(k.NDA_LLADDR);
  const destination = attributes.get(k.NDA_DST);
  return {
    index: payload.readInt32LE(4),
    state: payload.readUInt16LE(8),
    self: ((payload[10] ?? 0) & k.NTF_SELF) !== 0,
    mac: mac?.length === 6 ? macText(mac) : undefined,
    destination: destination ? ipText(destination) : undefined,
  };
}
