/** One agent per state directory. The lock is as alive as its process: a crash leaves nothing to clean up. */
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConflictError } from '../model/errors.js';

/** Start time of a process in clock ticks since boot: with it a reused pid is another process (proc(5), field 22). */
function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie has ended; nobody has collected it yet.
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

const holderOf = (path: string): { pid: number; alive: boolean } | undefined => {
  try {
    const [pid = '', started = ''] = readFileSync(path, 'utf8').trim().split(' ');
    return { pid: Number(pid), alive: started !== '' && startTimeOf(Number(pid)) === started };
  } catch {
    return undefined;
  }
};

export class StateLock implements Disposable {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /** @throws ConflictError that names the process which holds the directory. */
  static take(stateDir: string): StateLock {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    const path = join(stateDir, 'lock');
    const own = `${path}.${process.pid}`;
    writeFileSync(own, `${process.pid} ${startTimeOf(process.pid)}\n`, { mode: 0o600 });
    try {
      for (;;) {
        try {
          // Atomic, and whole at once: a lock without content is never seen.
          linkSync(own, path);
          return new StateLock(path);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
        }
        const holder = holderOf(path);
        if (holder?.alive) {
          throw new ConflictError(
            `State directory ${stateDir} is in use by process ${holder.pid}; stop it, or give another --state-dir`,
            { state_dir: stateDir, pid: holder.pid },
          );
        }
        rmSync(path, { force: true });
      }
    } finally {
      rmSync(own, { force: true });
    }
  }

  [Symbol.dispose](): void {
    rmSync(this.#path, { force: true });
  }
}
