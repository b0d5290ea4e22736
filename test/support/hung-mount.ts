/** A file system that never answers, like that of a server that is gone: FUSE, with nobody who reads the requests. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { run } from './command.js';

const GIVES_UP_AFTER_S = 20; // a test that waits for it fails then, and is not stuck

export class HungMount implements AsyncDisposable {
  /** A file on it, as far as anybody can tell. */
  readonly file: string;
  readonly #release: () => Promise<void>;

  private constructor(directory: string, release: () => Promise<void>) {
    this.file = join(directory, 'file');
    this.#release = release;
  }

  /** @param directory to be made; empty again at the end */
  static async at(directory: string): Promise<HungMount> {
    mkdirSync(directory);
    const fuse = openSync('/dev/fuse', 'r+');
    const options = `fd=3,rootmode=40000,user_id=0,group_id=0`;
    const script = `mount -i -t fuse -o ${options} hung "$1" && echo mounted && exec sleep ${GIVES_UP_AFTER_S}`;
    const holder = spawn('sh', ['-c', script, 'sh', directory], {
      stdio: ['ignore', 'pipe', 'inherit', fuse],
    });
    closeSync(fuse); // with the holder's the mount ends, and who waits for it gets an error
    const ended = once(holder, 'exit');
    const release = async () => {
      holder.kill('SIGKILL');
      await ended;
      await run(['umount', '--lazy', directory]);
    };
    const first = await Promise.race([once(holder.stdout as Readable, 'data'), ended]);
    if (String(first[0]).trim() === 'mounted') return new HungMount(directory, release);
    await release();
    throw new Error(`FUSE is not mounted at ${directory}`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#release();
  }
}
