/** The entries of remote endpoints, found against wanted. Pure; keys are numbers, for twenty thousand entries. */
import type { MacAddress } from '../model/scalars.js';
import { ipText, macText } from './netlink/codec.js';
import type { Request } from './netlink/conn.js';
import { NTF_SELF, NUD_NOARP, NUD_PERMANENT } from './netlink/constants.js';
import { delArp, delFdb, eachNeighbour, type FoundNeighbour } from './netlink/neighbour.js';
import type { PeerRecords } from './peers.js';
import type { Repair } from './types.js';

/** Packets of two dumps of an overlay namespace. */
export interface FoundEntries {
  readonly arp: readonly Buffer[];
  readonly fdb: readonly Buffer[];
}

export interface EntryDifferences {
  readonly repairs: Repair[];
  /** Take away what nobody wants. */
  readonly requests: Request[];
  /** Peers that lack an entry or have a wrong one. */
  readonly unset: Set<number>;
  /** Static entries of the bridge's ports, by `staticKey`. */
  readonly statics: Set<string>;
}

export const staticKey = (port: number, mac: MacAddress) => `${port} ${mac}`;

export function compareEntries(found: FoundEntries, peers: PeerRecords, vxlan: number): EntryDifferences {
  const differences: EntryDifferences = {
    repairs: [],
    requests: [],
    unset: new Set<number>(),
    statics: new Set<string>(),
  };
  const context = { peers, vxlan, to: differences };
  compareKind(found.arp, arpOf(peers, vxlan), context);
  compareKind(found.fdb, fdbOf(peers, vxlan), context);
  findStatics(found.fdb, differences.statics);
  return differences;
}

type Key = number | string;

/** One word is a small number, which is the cheapest key there is. */
function addressKey(words: Int32Array, at: number, length: number): Key {
  return length === 1 ? (words[at] ?? 0) : words.subarray(at, at + length).join();
}

const macKey = (words: Int32Array, at: number) =>
  ((words[at + 1] ?? 0) & 0xffff) * 2 ** 32 + ((words[at] ?? 0) >>> 0);

const bytesAt = (words: Int32Array, at: number, length: number) =>
  new Uint8Array(words.buffer, words.byteOffset + 4 * at, length);
const macOf = ({ words, macAt }: FoundNeighbour) => macText(bytesAt(words, macAt, 6));
const destinationOf = ({ words, destinationAt, destinationLength }: FoundNeighbour) =>
  ipText(bytesAt(words, destinationAt, 4 * destinationLength));
const destinationKey = ({ words, destinationAt, destinationLength }: FoundNeighbour) =>
  addressKey(words, destinationAt, destinationLength);

/** What differs between ARP and FDB: which half is the key, and how the other is compared and told. */
interface Kind {
  /** Key of an entry that was found; undefined: not ours to judge. */
  readonly keyOf: (found: FoundNeighbour) => Key | undefined;
  readonly wantedKey: (n: number) => Key;
  readonly isRight: (found: FoundNeighbour, n: number) => boolean;
  readonly nameOf: (n: number) => string;
  /** Whether an unwanted entry of another state than permanent is removed too, or left to the kernel. */
  readonly everyState: boolean;
  readonly remove: (found: FoundNeighbour) => { readonly repair: Repair; readonly request: Request };
}

const arpOf = (peers: PeerRecords, vxlan: number): Kind => ({
  keyOf: found => (found.destinationAt === 0 ? undefined : destinationKey(found)),
  wantedKey: n => addressKey(peers.words, peers.addressAt(n), peers.addressLength(n)),
  isRight: ({ words, macAt }, n) =>
    macAt !== 0 && macKey(words, macAt) === macKey(peers.words, peers.macAt(n)),
  nameOf: n => `ARP entry of ${peers.peer(n).address}`,
  everyState: false,
  remove: found => {
    const address = destinationOf(found);
    return { repair: `ARP entry of ${address} not wanted`, request: delArp(vxlan, address) };
  },
});

const fdbOf = (peers: PeerRecords, vxlan: number): Kind => ({
  keyOf: ({ flags, macAt, destinationAt, words }) =>
    flags & NTF_SELF && macAt !== 0 && destinationAt !== 0 ? macKey(words, macAt) : undefined,
  wantedKey: n => macKey(peers.words, peers.macAt(n)),
  isRight: (found, n) =>
    destinationKey(found) === addressKey(peers.words, peers.vtepAt(n), peers.vtepLength(n)),
  nameOf: n => `FDB entry of ${peers.peer(n).mac} to ${peers.peer(n).vtep}`,
  everyState: true,
  remove: found => {
    const [mac, vtep] = [macOf(found), destinationOf(found)];
    return { repair: `FDB entry of ${mac} to ${vtep} not wanted`, request: delFdb(vxlan, mac, vtep) };
  },
});

function compareKind(
  packets: readonly Buffer[],
  kind: Kind,
  { peers, vxlan, to }: { peers: PeerRecords; vxlan: number; to: EntryDifferences },
): void {
  const wanted = new Map<Key, number>();
  for (let n = 0; n < peers.count; n++) wanted.set(kind.wantedKey(n), n);
  const seen = new Uint8Array(peers.count);
  eachNeighbour(packets, found => {
    const key = found.index === vxlan ? kind.keyOf(found) : undefined;
    if (key === undefined) return;
    const n = wanted.get(key);
    const permanent = found.state === NUD_PERMANENT;
    if (n !== undefined) {
      seen[n] = permanent && kind.isRight(found, n) ? RIGHT : WRONG;
    } else if (permanent || kind.everyState) {
      const { repair, request } = kind.remove(found);
      to.repairs.push(repair);
      to.requests.push(request);
    }
  });
  for (const n of wanted.values()) {
    if (seen[n] === RIGHT) continue;
    to.unset.add(n);
    to.repairs.push(`${kind.nameOf(n)} ${seen[n] === WRONG ? 'wrong' : 'missing'}`);
  }
}

const RIGHT = 1;
const WRONG = 2;

function findStatics(packets: readonly Buffer[], statics: Set<string>): void {
  eachNeighbour(packets, found => {
    if (found.flags & NTF_SELF || found.state !== NUD_NOARP || found.macAt === 0) return;
    statics.add(staticKey(found.index, macOf(found)));
  });
}
