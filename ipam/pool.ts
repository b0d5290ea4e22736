/** The pool of one network: which addresses of its range are taken. Pure; changed on a copy, stored as a whole. */
import { InvalidError } from '../model/errors.js';
import type { PoolRecord } from '../model/records.js';
import { addressOf, type InterfaceAddress, type IpAddress, type NetworkId } from '../model/scalars.js';
import { Bitmap } from './bitmap.js';
import { addressAt, findNumberOf, numberOf, parseRange, type Range } from './range.js';

/**
 * Chosen: of a range above /16 a new pool covers this many addresses, for a /8 in full would outgrow etcd's limit on
 * values. Pools of existing agents cover their whole range and are kept as they are.
 */
export const COVERED_MAX = 65_536;

export class Pool {
  readonly #bits: Bitmap;

  private constructor(
    readonly networkId: NetworkId,
    readonly range: Range,
    bits: Bitmap,
  ) {
    this.#bits = bits;
  }

  /** Network address, broadcast address and gateway are taken. */
  static fresh(networkId: NetworkId, range: Range, gateway: InterfaceAddress): Pool {
    const pool = new Pool(networkId, range, Bitmap.empty(Math.min(range.size, COVERED_MAX)));
    pool.#bits.set(0);
    if (range.size <= COVERED_MAX) pool.#bits.set(range.size - 1);
    pool.take(addressOf(gateway));
    return pool;
  }

  /** @throws InvalidError when the record contradicts itself. */
  static fromRecord(record: PoolRecord): Pool {
    try {
      const range = parseRange(record.address_range, 'address_range');
      const bits = Bitmap.decode(record.bit_set, parseCount(record.address_count, range));
      return new Pool(record.id, range, bits);
    } catch (error) {
      if (!(error instanceof InvalidError)) throw error;
      const text = `The pool of network ${record.id} is broken: ${error.message}`;
      throw new InvalidError(text, { ...error.facts, network_id: record.id });
    }
  }

  toRecord(): PoolRecord {
    return {
      id: this.networkId,
      address_range: this.range.cidr,
      address_count: this.#bits.length,
      bit_set: this.#bits.encode(),
    };
  }

  copy(): Pool {
    return new Pool(this.networkId, this.range, this.#bits.clone());
  }

  /** Whether the bit set has a bit for the address; beyond, only owner keys say who holds it. */
  covers(address: IpAddress): boolean {
    const n = findNumberOf(this.range, address);
    return n !== undefined && n < this.#bits.length;
  }

  /** False for what is not covered. */
  isTaken(address: IpAddress): boolean {
    const n = findNumberOf(this.range, address);
    return n !== undefined && n < this.#bits.length && this.#bits.get(n);
  }

  /** Inside the range, and neither the network nor the broadcast address. */
  isUsable(address: IpAddress): boolean {
    const n = findNumberOf(this.range, address);
    return n !== undefined && n > 0 && n < this.range.size - 1;
  }

  /** Beyond the covered part there is no bit, and nothing happens. @throws InvalidError: outside the range. */
  take(address: IpAddress): void {
    const n = numberOf(this.range, address);
    if (n < this.#bits.length) this.#bits.set(n);
  }

  /** Network and broadcast address stay taken. @throws InvalidError: outside the range. */
  free(address: IpAddress): void {
    const n = numberOf(this.range, address);
    if (n > 0 && n < this.range.size - 1 && n < this.#bits.length) this.#bits.clear(n);
  }

  /** Taken addresses but for network and broadcast address, the lowest first. */
  *takenHosts(): Iterable<IpAddress> {
    const end = Math.min(this.#bits.length, this.range.size - 1);
    for (let n = 1; n < end; n++) if (this.#bits.get(n)) yield addressAt(this.range, n);
  }

  /** How many clear bits there are. */
  get freeCount(): number {
    return this.#bits.length - this.#bits.count;
  }

  /** The lowest free address that `skip` does not refuse; undefined when the pool is exhausted. */
  lowestFree(skip: (address: IpAddress) => boolean = () => false): IpAddress | undefined {
    const end = this.range.size - 1;
    for (let n = this.#bits.lowestClear(1); n !== undefined && n < end; n = this.#bits.lowestClear(n + 1)) {
      const address = addressAt(this.range, n);
      if (!skip(address)) return address;
    }
    return undefined;
  }
}

function parseCount(count: number, range: Range): number {
  const partial = range.size > COVERED_MAX && count === COVERED_MAX;
  if (count === range.size || partial) return count;
  const also = range.size > COVERED_MAX ? ` or ${COVERED_MAX}` : '';
  throw new InvalidError(`address_count is ${count}; for ${range.cidr} it must be ${range.size}${also}`, {
    field: 'address_count',
  });
}
