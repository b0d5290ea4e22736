/** Remote endpoints in one buffer: ten thousand of them cross to the kernel worker without being cloned one by one. */
import type { IpAddress } from '../model/scalars.js';
import { ipText, macText, writeIp, writeMac } from './netlink/codec.js';
import type { RemotePeer } from './types.js';

// A record: MAC, length of the address, length of the VTEP, address, VTEP. Room for IPv6 in both, and every part on
// a word's border, so that records are copied and compared in words of 32 bits.
const RECORD_BYTES = 40;
const MAC_AT = 0;
const ADDRESS_LENGTH_AT = 6;
const VTEP_LENGTH_AT = 7;
const ADDRESS_AT = 8;
const VTEP_AT = 24;

export function packPeers(peers: readonly RemotePeer[]): Uint8Array {
  const packed = new Uint8Array(peers.length * RECORD_BYTES);
  // Hosts are few: the bytes of a VTEP are made once, and copied from the record that had it first.
  const first = new Map<IpAddress, number>();
  let at = 0;
  for (const { address, mac, vtep } of peers) {
    writeMac(mac, packed, at + MAC_AT);
    packed[at + ADDRESS_LENGTH_AT] = writeIp(address, packed, at + ADDRESS_AT);
    const known = first.get(vtep);
    if (known === undefined) {
      first.set(vtep, at);
      packed[at + VTEP_LENGTH_AT] = writeIp(vtep, packed, at + VTEP_AT);
    } else {
      packed[at + VTEP_LENGTH_AT] = packed[known + VTEP_LENGTH_AT] ?? 0;
      packed.copyWithin(at + VTEP_AT, known + VTEP_AT, known + RECORD_BYTES);
    }
    at += RECORD_BYTES;
  }
  return packed;
}

export function unpackPeers(packed: Uint8Array): RemotePeer[] {
  return Array.from({ length: packed.length / RECORD_BYTES }, (_, n) => unpackPeer(packed, n));
}

function unpackPeer(packed: Uint8Array, n: number): RemotePeer {
  const record = packed.subarray(n * RECORD_BYTES, (n + 1) * RECORD_BYTES);
  const part = (from: number, length = 0) => record.subarray(from, from + length);
  return {
    address: ipText(part(ADDRESS_AT, record[ADDRESS_LENGTH_AT])),
    mac: macText(part(MAC_AT, 6)),
    vtep: ipText(part(VTEP_AT, record[VTEP_LENGTH_AT])),
  };
}

/** Packed peers as words; a place in them is the number of a word. */
export class PeerRecords {
  readonly words: Int32Array;
  readonly count: number;

  constructor(private readonly packed: Uint8Array) {
    // A view needs its first byte on a word's border.
    const whole = packed.byteOffset % 4 === 0 ? packed : packed.slice();
    this.words = new Int32Array(whole.buffer, whole.byteOffset, whole.length >> 2);
    this.count = packed.length / RECORD_BYTES;
  }

  /** Where peer `n` has its MAC: six bytes, with two more in its second word that belong to something else. */
  macAt(n: number): number {
    return (n * RECORD_BYTES + MAC_AT) >> 2;
  }

  addressAt(n: number): number {
    return (n * RECORD_BYTES + ADDRESS_AT) >> 2;
  }

  /** In words: one or four. */
  addressLength(n: number): number {
    return (this.packed[n * RECORD_BYTES + ADDRESS_LENGTH_AT] ?? 0) >> 2;
  }

  vtepAt(n: number): number {
    return (n * RECORD_BYTES + VTEP_AT) >> 2;
  }

  vtepLength(n: number): number {
    return (this.packed[n * RECORD_BYTES + VTEP_LENGTH_AT] ?? 0) >> 2;
  }

  peer(n: number): RemotePeer {
    return unpackPeer(this.packed, n);
  }

  /** Some of the peers, packed again. */
  pick(numbers: Iterable<number>): PeerRecords {
    return new PeerRecords(
      Buffer.concat([...numbers].map(n => this.packed.subarray(n * RECORD_BYTES, (n + 1) * RECORD_BYTES))),
    );
  }
}
