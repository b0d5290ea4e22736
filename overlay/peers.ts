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
  const packer = new PeerPacker(peers.length);
  const bytes = new Uint8Array(6);
  for (const { address, mac, vtep } of peers) {
    writeMac(mac, bytes, 0);
    packer.add(bytes, 0, address, vtep);
  }
  return packer.packed;
}

/** Packs one after the other, also for those who keep peers as bytes: a text of each would cost more than all else. */
export class PeerPacker {
  readonly #packed: Uint8Array;
  #at = 0;
  // Hosts are few: the bytes of a VTEP are made once, and copied from the record that had it first.
  readonly #first = new Map<IpAddress, number>();

  constructor(most: number) {
    this.#packed = new Uint8Array(most * RECORD_BYTES);
  }

  /** The MAC is read from `macs` at `macAt`; an IPv4 address may be given as its 32 bits. */
  add(macs: Uint8Array, macAt: number, address: IpAddress | number, vtep: IpAddress): void {
    const [packed, at] = [this.#packed, this.#at];
    for (let i = 0; i < 6; i++) packed[at + MAC_AT + i] = macs[macAt + i] ?? 0;
    packed[at + ADDRESS_LENGTH_AT] =
      typeof address === 'number'
        ? writeWord(address, packed, at + ADDRESS_AT)
        : writeIp(address, packed, at + ADDRESS_AT);
    const known = this.#first.get(vtep);
    if (known === undefined) {
      this.#first.set(vtep, at);
      packed[at + VTEP_LENGTH_AT] = writeIp(vtep, packed, at + VTEP_AT);
    } else {
      packed[at + VTEP_LENGTH_AT] = packed[known + VTEP_LENGTH_AT] ?? 0;
      packed.copyWithin(at + VTEP_AT, known + VTEP_AT, known + RECORD_BYTES);
    }
    this.#at += RECORD_BYTES;
  }

  get packed(): Uint8Array {
    return this.#at === this.#packed.length ? this.#packed : this.#packed.slice(0, this.#at);
  }
}

/** Four bytes in network order. */
function writeWord(word: number, into: Uint8Array, at: number): number {
  for (let i = 0; i < 4; i++) into[at + i] = word >>> (24 - 8 * i);
  return 4;
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
