/**
 * Paths of the host, as this process can open them. As a managed plugin the agent has a root file system of its own,
 * with the host's /run at another place; records, settings and messages keep the path that the host knows.
 */
import { posix } from 'node:path';

let hostRun: string | undefined;

/** Said once, by the worker, before it opens anything. */
export function findHostRunAt(directory: string | undefined): void {
  hostRun = directory;
}

/** Undefined: out of reach from here. /proc is not the host's, so that a process id of it means another process. */
export function pathHere(path: string, run = hostRun): string | undefined {
  if (run === undefined) return path;
  const [, below] = /^(?:\/var)?\/run(\/.+)$/.exec(posix.normalize(path)) ?? [];
  return below === undefined ? undefined : run + below;
}
