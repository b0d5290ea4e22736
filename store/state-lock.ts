/**
 * One agent per state directory. Each taker writes a file of its own and only then looks for others, so of two at once
 * at least one sees the other. Names carry pid and start time: a name is never another's, so to remove that of a dead
 * process cannot hit a living one, and a crash leaves nothing to clean up.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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

/** The living process among the others that have a file here; the files of dead ones are removed. */
function findLiving(stateDir: string, own: string): number | undefined {
  for (const name of readdirSync(stateDir)) {
    const [, pid = '', started = ''] = /^lock\.(\d+)\.(\d+)$/.exec(name) ?? [];
    if (pid === '' || name === own) continue;
    if (startTimeOf(Number(pid)) === started) return Number(pid);
    rmSync(join(stateDir, name), { force: true });
  }
  return undefined;
}

const held = new Set<string>();

export class StateLock implements Disposable {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
    held.add(path);
  }

  /** @throws ConflictError that names the process which holds the directory. */
  static take(stateDir: string): StateLock {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    const own = `lock.${process.pid}.${startTimeOf(process.pid)}`;
    const path = join(stateDir, own);
    if (held.has(path)) throw inUse(stateDir, process.pid);
    for (;;) {
      writeFileSync(path, '', { mode: 0o600 });
      if (findLiving(stateDir, own) === undefined) return new StateLock(path);
      rmSync(path, { force: true });
      // The other may have stepped back for us at the same moment: whoever looks last finds nobody and tries again.
      const living = findLiving(stateDir, own);
      if (living !== undefined) throw inUse(stateDir, living);
    }
  }

  [Symbol.dispose](): void {
    rmSync(this.#path, { force: true });
    held.delete(this.#path);
  }
}

const inUse = (stateDir: string, pid: number) =>
  new ConflictError(
    `State directory ${stateDir} is in use by process ${pid}; stop it, or give another --state-dir`,
    { state_dir: stateDir, pid },
  );
