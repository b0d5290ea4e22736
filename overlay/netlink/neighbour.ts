/**
 * Requests about neighbours: ARP entries, and forwarding entries (FDB) of VXLANs and bridges. Those of remote
 * endpoints are set by overlay/entries.ts.
 */
import type { IpAddress, MacAddress } from '../../model/scalars.js';
import { ipBytes, macBytes, type Writer, wordsOf } from './codec.js';
import type { Request } from './conn.js';
import * as k from './constants.js';

/** struct ndmsg (linux/neighbour.h). */
const ndmsg = (writer: Writer, family: number, index: number, state: number, flags: number) =>
  writer.u8(family).u8(0).u16(0).u32(index).u16(state).u8(flags).u8(0);

const SET = k.NLM_F_CREATE | k.NLM_F_REPLACE;
const familyOf = (ip: Buffer) => (ip.length === 4 ? k.AF_INET : k.AF_INET6);

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

/** Like: ip neigh show dev DEV, of both families. */
export const getArp = (index: number): Request => ({
  type: k.RTM_GETNEIGH,
  flags: 0,
  what: 'neigh show',
  write: writer => {
    // With strict checking the filter is an attribute; in the header it is EINVAL.
    ndmsg(writer, k.AF_UNSPEC, 0, 0, 0).attributeU32(k.NDA_IFINDEX, index);
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

/** One entry of a dump, seen in place: the next one takes its object over. */
export interface FoundNeighbour {
  readonly words: Int32Array;
  readonly index: number;
  readonly state: number;
  readonly flags: number;
  /** Where in `words` the six bytes of the MAC are; 0: it has none. */
  readonly macAt: number;
  /** Where the address of an ARP entry, or the VTEP of an FDB entry, is; 0: it has none. */
  readonly destinationAt: number;
  /** In words: one or four. */
  readonly destinationLength: number;
}

/** The entries of a dump; there may be twenty thousand of them, and no object is made for each. */
export function eachNeighbour(packets: readonly Buffer[], visit: (found: FoundNeighbour) => void): void {
  for (const packet of packets) {
    const words = wordsOf(packet);
    const found = { words, index: 0, state: 0, flags: 0, macAt: 0, destinationAt: 0, destinationLength: 0 };
    for (let at = 0; at + ENTRY_AT <= words.length; ) {
      const end = at + (((words[at] ?? 0) + 3) >> 2);
      if (end <= at || end > words.length) break;
      if (((words[at + 1] ?? 0) & 0xffff) === k.RTM_NEWNEIGH) {
        found.index = words[at + 5] ?? 0;
        found.state = (words[at + 6] ?? 0) & 0xffff;
        found.flags = ((words[at + 6] ?? 0) >>> 16) & 0xff;
        findAttributes(found, at + ENTRY_AT, end);
        visit(found);
      }
      at = end;
    }
  }
}

const ENTRY_AT = 7; // words of struct nlmsghdr and struct ndmsg

function findAttributes(found: Writable<FoundNeighbour>, from: number, end: number): void {
  found.macAt = 0;
  found.destinationAt = 0;
  for (let at = from; at < end; ) {
    const header = found.words[at] ?? 0;
    const length = header & 0xffff;
    const type = (header >>> 16) & k.NLA_TYPE_MASK;
    if (type === k.NDA_LLADDR && length === 4 + 6) found.macAt = at + 1;
    if (type === k.NDA_DST) {
      found.destinationAt = at + 1;
      found.destinationLength = (length - 4) >> 2;
    }
    // Both stand near the front; what follows tells us nothing.
    if (found.macAt !== 0 && found.destinationAt !== 0) return;
    at += Math.max(1, (length + 3) >> 2);
  }
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };
