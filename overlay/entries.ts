/**
 * The ARP and FDB entries of remote endpoints, two for each. There may be ten thousand endpoints when a network
 * begins on this host: their messages are written in words straight from the packed records.
 */
import type { Conn } from './netlink/conn.js';
import * as k from './netlink/constants.js';
import type { PeerRecords } from './peers.js';

const BATCH_PEERS = k.BATCH_MESSAGES / 2;
const MESSAGE_WORDS = 15; // with an IPv6 destination; 12 with IPv4

/** Sets both entries of every peer, whatever there was. */
export function setEntries(conn: Conn, peers: PeerRecords, vxlan: number): void {
  const writer = new EntryWriter(peers, vxlan);
  for (let from = 0; from < peers.count; from += BATCH_PEERS) {
    const count = Math.min(BATCH_PEERS, peers.count - from);
    const first = conn.reserve(2 * count);
    writer.clear();
    for (let i = 0; i < count; i++) {
      writer.arp(from + i, first + 2 * i);
      writer.fdb(from + i, first + 2 * i + 1);
    }
    const what = (i: number) => {
      const { address, mac, vtep } = peers.peer(from + (i >> 1));
      return { what: i & 1 ? `fdb replace ${mac} dst ${vtep}` : `neigh replace ${address} lladdr ${mac}` };
    };
    conn.exchange(writer.bytes(), { first, count: 2 * count, what });
  }
}

/**
 * Writes one batch. Like: ip neigh replace IP lladdr MAC dev DEV nud permanent, and
 * bridge fdb replace MAC dev DEV dst VTEP self permanent
 */
export class EntryWriter {
  readonly #peers: PeerRecords;
  readonly #from: Int32Array;
  readonly #vxlan: number;
  readonly #words = new Int32Array(k.BATCH_MESSAGES * MESSAGE_WORDS);
  #at = 0;
  #last = 0;

  constructor(peers: PeerRecords, vxlan: number) {
    this.#peers = peers;
    this.#from = peers.words;
    this.#vxlan = vxlan;
  }

  clear(): void {
    this.#at = 0;
  }

  arp(n: number, sequence: number): void {
    const length = this.#peers.addressLength(n);
    this.#head(length === 1 ? k.AF_INET : k.AF_INET6, 0, sequence);
    this.#body(this.#peers.addressAt(n), length, this.#peers.macAt(n));
  }

  fdb(n: number, sequence: number): void {
    this.#head(k.AF_BRIDGE, k.NTF_SELF, sequence);
    this.#body(this.#peers.vtepAt(n), this.#peers.vtepLength(n), this.#peers.macAt(n));
  }

  /** struct nlmsghdr without its length, and struct ndmsg. */
  #head(family: number, flags: number, sequence: number): void {
    const words = this.#words;
    const at = this.#at;
    words[at + 1] = k.RTM_NEWNEIGH | ((k.NLM_F_REQUEST | k.NLM_F_CREATE | k.NLM_F_REPLACE) << 16);
    words[at + 2] = sequence;
    words[at + 3] = 0;
    words[at + 4] = family;
    words[at + 5] = this.#vxlan;
    words[at + 6] = k.NUD_PERMANENT | (flags << 16);
    this.#last = at;
    this.#at = at + 7;
  }

  #body(destinationAt: number, destinationWords: number, macAt: number): void {
    const words = this.#words;
    const from = this.#from;
    let at = this.#at;
    words[at++] = (4 + 4 * destinationWords) | (k.NDA_DST << 16);
    for (let i = 0; i < destinationWords; i++) words[at++] = from[destinationAt + i] ?? 0;
    words[at++] = (4 + 6) | (k.NDA_LLADDR << 16);
    words[at++] = from[macAt] ?? 0;
    words[at++] = (from[macAt + 1] ?? 0) & 0xffff;
    words[this.#last] = 4 * (at - this.#last);
    this.#at = at;
  }

  /** The messages so far; the last one asks for an acknowledgement. */
  bytes(): Uint8Array {
    const header = this.#last + 1;
    this.#words[header] = (this.#words[header] ?? 0) | (k.NLM_F_ACK << 16);
    return new Uint8Array(this.#words.buffer, 0, 4 * this.#at);
  }
}
