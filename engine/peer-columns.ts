/**
 * The endpoints of the whole cluster as columns of numbers: some 90 bytes each, outside of the heap that is searched
 * for garbage. A row is an endpoint in a network; it is found by its id, or by network and address, through chains.
 */
import type { EndpointId, IpAddress, MacAddress } from '../model/scalars.js';
import { macText, writeIp, writeMac } from '../overlay/netlink/codec.js';

export const NO_ROW = -1;
const FIRST_ROWS = 64; // chosen: a cluster of one host
const GROWTH = 1.5; // chosen: what is reserved ahead of need is a third at most

const columnsOf = (rows: number) => ({
  ids: new Uint32Array(rows * 4),
  networks: new Uint32Array(rows),
  addresses: new Uint32Array(rows),
  macs: new Uint8Array(rows * 6),
  homes: new Uint32Array(rows),
  created: new Float64Array(rows),
  modified: new Float64Array(rows),
  seen: new Uint8Array(rows),
  // The endpoints of one network, in the order in which they came
  previous: new Int32Array(rows).fill(NO_ROW),
  next: new Int32Array(rows).fill(NO_ROW),
  // The rows of one bucket
  nextId: new Int32Array(rows).fill(NO_ROW),
  nextAddress: new Int32Array(rows).fill(NO_ROW),
});

/** The two chains, each with its buckets. */
type Chain = 'nextId' | 'nextAddress';

export class PeerColumns {
  columns = columnsOf(FIRST_ROWS);
  #rows = FIRST_ROWS;
  #buckets = bucketsOf(FIRST_ROWS);
  #used = 0;
  /** Rows that were left, chained through `next`. */
  #free = NO_ROW;
  /** Addresses that are no IPv4: in the column stands a number made of them. */
  readonly #long = new Map<number, IpAddress>();
  readonly #words = new Uint32Array(4);

  /** Up to which there may be rows. */
  get used(): number {
    return this.#used;
  }

  /** A row with these, in its chains; the other columns are the caller's. */
  add(network: number, id: EndpointId, address: IpAddress): number {
    const row = this.#takeRow();
    writeId(id, this.#words);
    this.columns.ids.set(this.#words, row * 4);
    this.columns.networks[row] = network;
    this.#link('nextId', row);
    this.setAddress(row, address, 'new');
    return row;
  }

  drop(row: number): void {
    const { columns } = this;
    this.#unlink('nextId', row);
    this.#unlink('nextAddress', row);
    this.#long.delete(row);
    columns.next[row] = this.#free;
    columns.previous[row] = row; // no row of a network comes after itself
    this.#free = row;
  }

  isFree(row: number): boolean {
    return this.columns.previous[row] === row;
  }

  setAddress(row: number, address: IpAddress, state: 'new' | 'known' = 'known'): void {
    if (state === 'known') this.#unlink('nextAddress', row);
    this.#long.delete(row);
    this.columns.addresses[row] = wordOf(address);
    if (address.includes(':')) this.#long.set(row, address);
    this.#link('nextAddress', row);
  }

  /** Of IPv4 its 32 bits. */
  rawAddressOf(row: number): IpAddress | number {
    const long = this.#long.size > 0 ? this.#long.get(row) : undefined;
    return long ?? this.columns.addresses[row] ?? 0;
  }

  addressOf(row: number): IpAddress {
    const word = this.rawAddressOf(row);
    if (typeof word !== 'number') return word;
    return `${word >>> 24}.${(word >>> 16) & 255}.${(word >>> 8) & 255}.${word & 255}` as IpAddress;
  }

  setMac = (row: number, mac: MacAddress) => writeMac(mac, this.columns.macs, row * 6);
  macOf = (row: number) => macText(this.columns.macs.subarray(row * 6, row * 6 + 6));
  idOf = (row: number) => idText(this.columns.ids, row * 4);

  /** Rows of an endpoint: one for each network that lists it, so hardly ever two. */
  *ofId(id: EndpointId): Iterable<number> {
    const words = new Uint32Array(4);
    writeId(id, words);
    for (
      let row = this.#first('nextId', hashOfId(words, 0));
      row !== NO_ROW;
      row = this.#next('nextId', row)
    ) {
      if (this.#hasId(row, words)) yield row;
    }
  }

  find(network: number, id: EndpointId): number {
    const { networks } = this.columns;
    writeId(id, this.#words);
    let row = this.#first('nextId', hashOfId(this.#words, 0));
    while (row !== NO_ROW && !(networks[row] === network && this.#hasId(row, this.#words))) {
      row = this.#next('nextId', row);
    }
    return row;
  }

  /** Rows of a network that bear an address. */
  bearers(network: number, address: IpAddress): number[] {
    const { networks, addresses } = this.columns;
    const word = wordOf(address);
    const rows: number[] = [];
    let row = this.#first('nextAddress', hashOfAddress(network, word));
    for (; row !== NO_ROW; row = this.#next('nextAddress', row)) {
      if (networks[row] !== network || addresses[row] !== word) continue;
      if (this.#long.size === 0 || this.addressOf(row) === address) rows.push(row);
    }
    return rows;
  }

  /** Whether another of its network bears the address. */
  sharesAddress(row: number): boolean {
    const { networks, addresses } = this.columns;
    const [network = 0, word = 0] = [networks[row], addresses[row]];
    let other = this.#first('nextAddress', hashOfAddress(network, word));
    for (; other !== NO_ROW; other = this.#next('nextAddress', other)) {
      if (other === row || networks[other] !== network || addresses[other] !== word) continue;
      if (this.#long.size === 0 || this.addressOf(other) === this.addressOf(row)) return true;
    }
    return false;
  }

  #hasId(row: number, words: Uint32Array): boolean {
    const { ids } = this.columns;
    const at = row * 4;
    return (
      ids[at] === words[0] && ids[at + 1] === words[1] && ids[at + 2] === words[2] && ids[at + 3] === words[3]
    );
  }

  #takeRow(): number {
    const row = this.#free;
    if (row !== NO_ROW) {
      this.#free = this.#next('next', row);
      return row;
    }
    if (this.#used === this.#rows) this.#grow();
    return this.#used++;
  }

  #grow(): void {
    const before = this.columns;
    this.#rows = Math.ceil(this.#rows * GROWTH);
    this.columns = columnsOf(this.#rows);
    for (const [name, column] of Object.entries(before)) {
      this.columns[name as keyof typeof before].set(column);
    }
    if (this.#rows <= this.#buckets.nextId.length) return;
    this.#buckets = bucketsOf(this.#rows);
    // Only when no row is free: all are in their chains.
    for (let row = 0; row < this.#used; row++) {
      this.#link('nextId', row);
      this.#link('nextAddress', row);
    }
  }

  #next(chain: Chain | 'next', row: number): number {
    return this.columns[chain][row] ?? NO_ROW;
  }

  #bucketOf(chain: Chain, hash: number): number {
    return hash & (this.#buckets[chain].length - 1);
  }

  #first(chain: Chain, hash: number): number {
    return this.#buckets[chain][this.#bucketOf(chain, hash)] ?? NO_ROW;
  }

  #hashOf(chain: Chain, row: number): number {
    const { ids, networks, addresses } = this.columns;
    if (chain === 'nextId') return hashOfId(ids, row * 4);
    return hashOfAddress(networks[row] ?? 0, addresses[row] ?? 0);
  }

  #link(chain: Chain, row: number): void {
    const bucket = this.#bucketOf(chain, this.#hashOf(chain, row));
    this.columns[chain][row] = this.#buckets[chain][bucket] ?? NO_ROW;
    this.#buckets[chain][bucket] = row;
  }

  #unlink(chain: Chain, row: number): void {
    const links = this.columns[chain];
    const bucket = this.#bucketOf(chain, this.#hashOf(chain, row));
    const after = links[row] ?? NO_ROW;
    let at = this.#buckets[chain][bucket] ?? NO_ROW;
    if (at === row) {
      this.#buckets[chain][bucket] = after;
      return;
    }
    while (at !== NO_ROW && links[at] !== row) at = links[at] ?? NO_ROW;
    if (at !== NO_ROW) links[at] = after;
  }
}

function bucketsOf(rows: number) {
  const size = 2 ** Math.ceil(Math.log2(rows));
  return { nextId: new Int32Array(size).fill(NO_ROW), nextAddress: new Int32Array(size).fill(NO_ROW) };
}

/** Endpoint ids are random, unless somebody else gave them. */
const hashOfId = (words: Uint32Array, at: number) => mix((words[at] ?? 0) ^ (words[at + 3] ?? 0));
const hashOfAddress = (network: number, word: number) => mix(word ^ Math.imul(network + 1, 0x9e37_79b1));

/** The last step of MurmurHash3: every bit of the result depends on every bit of the word. */
function mix(word: number): number {
  let hash = Math.imul(word ^ (word >>> 16), 0x85eb_ca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

const octets = Buffer.alloc(16);
/** An IPv4 address as a number; of IPv6 a number that others may have, too. */
function wordOf(address: IpAddress): number {
  const length = writeIp(address, octets, 0);
  let word = octets.readUInt32BE(0);
  for (let at = 4; at < length; at += 4) word ^= octets.readUInt32BE(at);
  return word >>> 0;
}

/** Where the 32 digits of a UUID stand, and how it is written from them. */
const text = Buffer.from('00000000-0000-0000-0000-000000000000');
const DIGITS = [...text].flatMap((code, at) => (code === 0x30 ? [at] : []));
const HEX = Buffer.from('0123456789abcdef');

function writeId(id: EndpointId, into: Uint32Array): void {
  for (let word = 0; word < 4; word++) {
    let value = 0;
    for (let n = 0; n < 8; n++) {
      const code = id.charCodeAt(DIGITS[word * 8 + n] ?? 0);
      value = (value << 4) | (code < 0x3a ? code - 0x30 : code - 0x57);
    }
    into[word] = value;
  }
}

function idText(words: Uint32Array, at: number): EndpointId {
  for (let word = 0; word < 4; word++) {
    const value = words[at + word] ?? 0;
    for (let n = 0; n < 8; n++) {
      text[DIGITS[word * 8 + n] ?? 0] = HEX[(value >>> (28 - 4 * n)) & 15] ?? 0;
    }
  }
  return text.toString('latin1') as EndpointId;
}
