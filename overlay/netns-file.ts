/** Whether a file can be a network namespace, found out without a native call: any thread may ask. */
import { closeSync, openSync, statfsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { InvalidError, UnavailableError } from '../model/errors.js';
import type { NetnsPath } from '../model/scalars.js';
import { pathHere } from './host-paths.js';
import { NSFS_MAGIC, O_PATH } from './netlink/constants.js';

/** What a path is instead of a network namespace, and what would do. */
export interface Unfit {
  readonly instead: string;
  readonly wanted?: string;
}

const A_NETNS = 'it must be a network namespace, such as /var/run/netns/… or /proc/<pid>/ns/net';
const BELOW_RUN = 'name the namespace below /run, as "ip netns attach NAME PID" does for that of a process';
export const OUT_OF_REACH = {
  instead: 'is out of reach of an agent in a managed plugin, which sees nothing of its host but /run',
  wanted: BELOW_RUN,
};

/**
 * A descriptor of a namespace of whatever kind, which the caller closes. By O_PATH, which opens no device, pipe or socket.
 * @param here the path as this process can open it; undefined: out of reach
 */
export function openNsfs(here: string | undefined): { readonly at: number } | Unfit {
  if (here === undefined) return OUT_OF_REACH;
  let at: number;
  try {
    at = openSync(here, O_PATH);
  } catch (error) {
    return { instead: unreachable(error as NodeJS.ErrnoException) };
  }
  let isNsfs = false;
  try {
    isNsfs = statfsSync(`/proc/self/fd/${at}`).type === NSFS_MAGIC;
  } finally {
    if (!isNsfs) closeSync(at);
  }
  return isNsfs ? { at } : { instead: 'is no namespace' };
}

/**
 * Whether a namespace is there; of which kind only the kernel worker can tell, which opens it.
 * @param hostRun where the host's /run is mounted here; undefined: at /run
 * @throws InvalidError that says what the path is instead. UnavailableError: its file system hangs, so nobody can tell.
 */
export async function requireNsfs(path: NetnsPath, hostRun: string | undefined): Promise<void> {
  const here = pathHere(path, hostRun);
  if (here !== undefined && !NEVER_HANGS.test(path) && !(await answers(here))) throw hangs(path);
  const found = openNsfs(here);
  if (!('at' in found)) throw unfit(path, found);
  closeSync(found.at);
}

/** Where nearly all namespaces are, by root's own hand: to ask libuv's threads about them would only cost time. */
const NEVER_HANGS = /^\/(?:proc\/\w+\/ns|run|var\/run)\/(?!.*\.\.\/)/;
const ANSWERS_WITHIN_MS = 2_000; // chosen: below every caller's patience

let asked: Promise<unknown> = Promise.resolve();

/** A look at a network's file system may never return. One at a time: it holds one of libuv's few threads then. */
function answers(here: string): Promise<boolean> {
  const answer = asked
    .then(() => stat(here))
    .catch(() => undefined)
    .then(() => true);
  asked = answer;
  return Promise.race([answer, sleep(ANSWERS_WITHIN_MS, false, { ref: false })]);
}

export const unfit = (path: NetnsPath, { instead, wanted = A_NETNS }: Unfit) =>
  new InvalidError(`ns_handle_path ${path} ${instead}; ${wanted}`, { field: 'ns_handle_path', path });

const hangs = (path: NetnsPath) =>
  new UnavailableError(`ns_handle_path ${path} is on a file system that does not answer; ${BELOW_RUN}`, {
    field: 'ns_handle_path',
    path,
  });

function unreachable(error: NodeJS.ErrnoException): string {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return 'does not exist';
  return `cannot be opened (${error.code ?? error.message})`;
}
