/**
 * Network namespaces by file. The calls that enter one are synchronous up to the return: in between, the thread is
 * elsewhere, and nothing may be started. A return that fails ends the worker, never the agent.
 */
import { closeSync, mkdirSync, openSync, readdirSync, rmSync, statfsSync } from 'node:fs';
import { InvalidError } from '../model/errors.js';
import type { NetnsPath } from '../model/scalars.js';
import { Conn } from './netlink/conn.js';
import { NSFS_MAGIC, O_PATH } from './netlink/constants.js';
import { bindMount, enterNetns, isNetns, unmount, unshareNetns } from './netlink/socket.js';

/** /proc/self is the main thread. */
const THIS_THREAD = '/proc/thread-self/ns/net';

/** A namespace held open. */
export class Netns implements Disposable {
  private constructor(
    readonly fd: number,
    readonly path: NetnsPath,
  ) {}

  /** Undefined when the file is missing or stale: what a namespace leaves behind after its machine restarted. */
  static find(path: NetnsPath): Netns | undefined {
    const found = look(path);
    return 'fd' in found ? new Netns(found.fd, path) : undefined;
  }

  /** Somebody else's namespace. @throws InvalidError: no network namespace, and what it is instead. */
  static open(path: NetnsPath): Netns {
    const found = look(path);
    if ('fd' in found) return new Netns(found.fd, path);
    throw new InvalidError(
      `ns_handle_path ${path} ${found.instead}; it must be a network namespace, such as /var/run/netns/… or /proc/<pid>/ns/net`,
      { field: 'ns_handle_path', path },
    );
  }

  /** The thread's own. */
  static current(): Netns {
    return new Netns(openSync(THIS_THREAD, 'r'), THIS_THREAD as NetnsPath);
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}

/**
 * Opens a path only when it is a network namespace. O_PATH comes first, which opens no device, pipe or socket; then
 * the very file that was looked at is opened through its descriptor, so that nobody exchanges it in between.
 */
function look(path: NetnsPath): { readonly fd: number } | { readonly instead: string } {
  let at: number;
  try {
    at = openSync(path, O_PATH);
  } catch (error) {
    return { instead: unreachable(error as NodeJS.ErrnoException) };
  }
  try {
    const same = `/proc/self/fd/${at}`;
    if (statfsSync(same).type !== NSFS_MAGIC) return { instead: 'is no namespace' };
    const fd = openSync(same, 'r');
    if (isNetns(fd)) return { fd };
    closeSync(fd);
    return { instead: 'is a namespace of another kind' };
  } finally {
    closeSync(at);
  }
}

function unreachable(error: NodeJS.ErrnoException): string {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return 'does not exist';
  return `cannot be opened (${error.code ?? error.message})`;
}

/** Runs `work` in `netns` and comes back to `home`. */
export function inside<T>(netns: Netns, home: Netns, work: () => T): T {
  enterNetns(netns.fd);
  try {
    return work();
  } finally {
    goHome(home);
  }
}

function goHome(home: Netns): void {
  try {
    enterNetns(home.fd);
  } catch {
    process.exit(1); // of this worker thread
  }
}

/** A netlink socket in the namespace; it stays there when the thread has left. */
export const connIn = (netns: Netns, home: Netns) => inside(netns, home, () => new Conn());

/** Makes a namespace bound to `path`; a stale file there is replaced. */
export function createNetns(path: NetnsPath, home: Netns): Netns {
  mkdirSync(path.slice(0, path.lastIndexOf('/')), { recursive: true });
  removeNetnsFile(path);
  closeSync(openSync(path, 'wx', 0o444));
  try {
    unshareNetns();
    try {
      bindMount(THIS_THREAD, path);
    } finally {
      goHome(home);
    }
    return Netns.open(path);
  } catch (error) {
    removeNetnsFile(path);
    throw error;
  }
}

/** Unmounts and unlinks; the namespace ends with its last user. */
export function removeNetnsFile(path: NetnsPath): void {
  while (unmount(path));
  rmSync(path, { force: true });
}

export function listNetnsFiles(directory: string, prefix: string): NetnsPath[] {
  try {
    return readdirSync(directory)
      .filter(name => name.startsWith(prefix))
      .map(name => `${directory}/${name}` as NetnsPath);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
