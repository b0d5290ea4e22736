/** Who this host is, whatever it is called: a random id, made once, that lives and dies with the state directory. */
import { randomUUID } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConflictError } from '../model/errors.js';
import { isNetworkId } from '../model/scalars.js';

export interface Identity {
  /** Of the state directory. */
  readonly id: string;
  /** Of this process. */
  readonly instance: string;
}

/**
 * Reads `<state-dir>/identity`, or makes it. The caller holds the directory's lock.
 * @throws ConflictError: the file holds something else.
 */
export function loadIdentity(stateDir: string): Identity {
  const path = join(stateDir, 'identity');
  const id = (read(path) ?? make(path)).trim();
  if (!isNetworkId(id)) {
    throw new ConflictError(`${path} holds no UUID; delete it, and this host is a new one`, { path });
  }
  return { id, instance: randomUUID() };
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Whole or not at all: half an id after a power cut would be another host. */
function make(path: string): string {
  const id = randomUUID();
  mkdirSync(join(path, '..'), { recursive: true, mode: 0o700 });
  const draft = `${path}.new`;
  writeFileSync(draft, `${id}\n`, { mode: 0o600, flush: true });
  linkSync(draft, path);
  rmSync(draft);
  return id;
}
