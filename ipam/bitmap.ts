/**
 * A bit set in the encoding that existing agents store: base64url with padding of the bit length as a big-endian
 * uint64, then the words, each a big-endian uint64. Bit i is bit i mod 64, least significant first, of word i div 64.
 * In memory each word is two 32-bit halves, low half first, so that no operation on bits needs a BigInt.
 */
import { InvalidError } from '../model/errors.js';

// Fixed by the encoding.
const HEADER_BYTES = 8;
const WORD_BYTES = 8;
const WORD_BITS = 64;

export class Bitmap {
  readonly #halves: Uint32Array;

  private constructor(
    readonly length: number,
    halves: Uint32Array,
  ) {
    this.#halves = halves;
  }

  static empty(length: number): Bitmap {
    return new Bitmap(length, new Uint32Array(Math.ceil(length / WORD_BITS) * 2));
  }

  /** @throws InvalidError: malformed, or not of `expectedBits`. */
  static decode(text: string, expectedBits: number): Bitmap {
    const bytes = parseBase64url(text);
    if (bytes.length < HEADER_BYTES) throw broken(`${bytes.length} bytes`, `${HEADER_BYTES} or more`);
    const length = Number(bytes.readBigUInt64BE());
    if (length !== expectedBits) throw broken(`${length} bits`, String(expectedBits));
    const words = Math.ceil(length / WORD_BITS);
    const size = HEADER_BYTES + words * WORD_BYTES;
    if (bytes.length !== size) throw broken(`${length} bits in ${bytes.length} bytes`, `${size} bytes`);
    const halves = new Uint32Array(words * 2);
    for (let half = 0, at = HEADER_BYTES; at < size; half += 2, at += WORD_BYTES) {
      halves[half + 1] = bytes.readUInt32BE(at);
      halves[half] = bytes.readUInt32BE(at + 4);
    }
    return new Bitmap(length, halves);
  }

  encode(): string {
    const halves = this.#halves;
    const bytes = Buffer.alloc(HEADER_BYTES + halves.length * 4);
    bytes.writeBigUInt64BE(BigInt(this.length));
    for (let half = 0, at = HEADER_BYTES; half < halves.length; half += 2, at += WORD_BYTES) {
      bytes.writeUInt32BE(halves[half + 1] ?? 0, at);
      bytes.writeUInt32BE(halves[half] ?? 0, at + 4);
    }
    const text = bytes.toString('base64url');
    return text.padEnd(Math.ceil(text.length / 4) * 4, '=');
  }

  get(bit: number): boolean {
    return (((this.#halves[bit >>> 5] ?? 0) >>> (bit & 31)) & 1) === 1;
  }

  set(bit: number): void {
    this.#halves[bit >>> 5] = (this.#halves[bit >>> 5] ?? 0) | (1 << (bit & 31));
  }

  clear(bit: number): void {
    this.#halves[bit >>> 5] = (this.#halves[bit >>> 5] ?? 0) & ~(1 << (bit & 31));
  }

  /** The lowest clear bit from `from` on; undefined when all are set. */
  lowestClear(from = 0): number | undefined {
    const halves = this.#halves;
    // Bits below `from` count as set in the first half only.
    let below = (1 << (from & 31)) - 1;
    for (let half = from >>> 5; half < halves.length; half += 1) {
      const free = ~((halves[half] ?? 0) | below);
      below = 0;
      if (free === 0) continue;
      const bit = half * 32 + 31 - Math.clz32(free & -free);
      return bit < this.length ? bit : undefined;
    }
    return undefined;
  }

  /** How many bits are set. */
  get count(): number {
    let count = 0;
    for (const half of this.#halves) count += onesIn(half);
    return count;
  }

  clone(): Bitmap {
    return new Bitmap(this.length, this.#halves.slice());
  }
}

/** Node's decoder skips what it does not know; a stored value that is not ours must not pass for one. */
function parseBase64url(text: string): Buffer {
  if (text.length % 4 !== 0 || !/^[\w-]*={0,2}$/.test(text)) {
    throw broken(`not base64url with padding (${text.length} characters)`, 'a value written by an agent');
  }
  return Buffer.from(text, 'base64url');
}

const broken = (found: string, expected: string) =>
  new InvalidError(`bit_set is ${found}; it must be ${expected}`, { field: 'bit_set', found, expected });

/** Sums of pairs, then of nibbles, then of bytes: Warren, Hacker's Delight, section 5-1. */
function onesIn(half: number): number {
  const pairs = half - ((half >>> 1) & 0x5555_5555);
  const nibbles = (pairs & 0x3333_3333) + ((pairs >>> 2) & 0x3333_3333);
  return Math.imul((nibbles + (nibbles >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}
