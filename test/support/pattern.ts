/** Bytes that both ends of a connection know, of any length, and their digest. */
import { createHash, type Hash } from 'node:crypto';

const BLOCK = Buffer.alloc(256 * 1024);
for (let at = 0, value = 1; at < BLOCK.length; at += 1) {
  value = (value * 48_271) % 0x7fff_ffff; // a linear congruential generator: no two stretches are alike
  BLOCK[at] = value & 0xff;
}

export interface Digest {
  readonly bytes: number;
  readonly sha256: string;
}

export function* pattern(bytes: number): Generator<Buffer> {
  for (let left = bytes; left > 0; left -= BLOCK.length)
    yield BLOCK.subarray(0, Math.min(left, BLOCK.length));
}

export class Digester {
  #bytes = 0;
  readonly #hash: Hash = createHash('sha256');

  add(chunk: Buffer): void {
    this.#bytes += chunk.length;
    this.#hash.update(chunk);
  }

  end(): Digest {
    return { bytes: this.#bytes, sha256: this.#hash.digest('hex') };
  }
}

export function digestOfPattern(bytes: number): Digest {
  const digester = new Digester();
  for (const chunk of pattern(bytes)) digester.add(chunk);
  return digester.end();
}
