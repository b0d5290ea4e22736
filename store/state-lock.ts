/** One agent per state directory. The lock is as alive as its process: a crash leaves nothing to clean up. */
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
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

const contentOf = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
};

/** The living process that wrote the lock. */
function holderOf(content: string): number | undefined {
  const [pid = '', started = ''] = content.trim().split(' ');
  return started !== '' && startTimeOf(Number(pid)) === started ? Number(pid) : undefined;
}

/** Moves a dead process's lock away; one that a living process took just before is put back. */
function removeStale(path: string, content: string): void {
  const aside = `${path}.stale.${process.pid}`;
  try {
    renameSync(path, aside);
    if (contentOf(aside) !== content) linkSync(aside, path);
  } catch {
    // Another process was faster: the next look tells who has it.
  }
  rmSync(aside, { force: true });
}

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
        const content = contentOf(path);
        if (content === undefined) continue;
        const pid = holderOf(content);
        if (pid !== undefined) {
          throw new ConflictError(
            `State directory ${stateDir} is in use by process ${pid}; stop it, or give another --state-dir`,
            { state_dir: stateDir, pid },
          );
        }
        removeStale(path, content);
      }
    } finally {
      rmSync(own, { force: true });
    }
  }

  [Symbol.dispose](): void {
    rmSync(this.#path, { force: true });
  }
}
