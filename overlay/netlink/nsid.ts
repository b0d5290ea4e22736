/**
 * Numbers that one network namespace has for others: the kernel keeps them as long as both live, and takes them back
 * by itself. A request that bears such a number is about the interfaces of that other namespace.
 */
import { attributesOf, type Message } from './codec.js';
import type { Request } from './conn.js';
import * as k from './constants.js';

/** Like: ip netns set NS auto. One that has a number keeps it. */
export const newNsid = (netnsFd: number): Request => ({
  type: k.RTM_NEWNSID,
  flags: 0,
  what: 'netns set auto',
  expected: [k.EEXIST],
  write: writer =>
    writer.u32(0).attributeU32(k.NETNSA_FD, netnsFd).attributeU32(k.NETNSA_NSID, k.NETNSA_NSID_NOT_ASSIGNED),
});

export const getNsid = (netnsFd: number): Request => ({
  type: k.RTM_GETNSID,
  flags: 0,
  what: 'netns list-id',
  write: writer => writer.u32(0).attributeU32(k.NETNSA_FD, netnsFd),
});

/** Like: ip netns list-id */
export const getNsids: Request = {
  type: k.RTM_GETNSID,
  flags: 0,
  what: 'netns list-id',
  write: writer => writer.u32(0),
};

/** Undefined for any other message, and for a namespace without a number. */
export function parseNsid(message: Message): number | undefined {
  if (message.type !== k.RTM_NEWNSID) return undefined;
  const id = attributesOf(message.payload, 4).get(k.NETNSA_NSID)?.readInt32LE(0);
  return id === k.NETNSA_NSID_NOT_ASSIGNED ? undefined : id;
}
