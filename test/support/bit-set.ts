/**
 * The stored form of a pool's bit set, read and written a second time from the description of the layout, with
 * BigInt: what our own encoder is compared with, and what the stand-in of the original's agent uses.
 */
export function bitsOf(text: string): { length: number; taken: Set<number> } {
  const bytes = Buffer.from(text, 'base64url');
  const length = Number(bytes.readBigUInt64BE(0));
  const taken = new Set<number>();
  for (let bit = 0; bit < length; bit++) {
    const word = bytes.readBigUInt64BE(8 + 8 * Math.floor(bit / 64));
    if ((word >> BigInt(bit % 64)) & 1n) taken.add(bit);
  }
  return { length, taken };
}

export function textOf(length: number, taken: Iterable<number>): string {
  const words = new Array<bigint>(Math.ceil(length / 64)).fill(0n);
  for (const bit of taken) {
    const at = Math.floor(bit / 64);
    words[at] = (words[at] ?? 0n) | (1n << BigInt(bit % 64));
  }
  const bytes = Buffer.alloc(8 + 8 * words.length);
  bytes.writeBigUInt64BE(BigInt(length), 0);
  words.forEach((word, at) => {
    bytes.writeBigUInt64BE(word, 8 + 8 * at);
  });
  return bytes.toString('base64').replaceAll('+', '-').replaceAll('/', '_');
}
