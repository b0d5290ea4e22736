/** What makes two builds of the same sources the same bytes. */
import { chmod, lutimes, readdir } from 'node:fs/promises';
import { join } from 'node:path';

const EPOCH = new Date(0);

/** Modes and times that depend on nothing but what a file is. */
export async function level(directory: string): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await level(path);
    else if (entry.isFile()) await chmod(path, isProgram(path) ? 0o755 : 0o644);
    await lutimes(path, EPOCH, EPOCH);
  }
  await chmod(directory, 0o755);
  await lutimes(directory, EPOCH, EPOCH);
}

const isProgram = (path: string) =>
  /\/(bin|lib64|[^/]*-linux-gnu)\/[^/]+$/.test(path) ||
  /\/DEBIAN\/(post|pre)[a-z]+$/.test(path) ||
  path.endsWith('/main.js');
