/**
 * Network namespaces by file. The calls that enter one are synchronous up to the return: in between, the thread is
 * elsewhere, and nothing may be started. A return that fails ends the worker, never the agent.
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
} from 'node:fs';
import { KernelError } from '../model/errors.js';
import type { NetnsPath } from '../model/scalars.js';
import { stepped } from '../model/steps.js';
import { pathHere } from './host-paths.js';
import { Conn } from './netlink/conn.js';
import { bindMount, enterNetns, isNetns, unmount, unshareNetns } from './netlink/socket.js';
import { OUT_OF_REACH, openNsfs, type Unfit, unfit } from './netns-file.js';

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
    throw unfit(path, found);
  }

  /** The thread's own. */
  static current(): Netns {
    return new Netns(openSync(THIS_THREAD, 'r'), THIS_THREAD as NetnsPath);
  }

  /** Whether the path leads to this namespace still. */
  get isAtItsPath(): boolean {
    try {
      return statSync(pathHere(this.path) ?? this.path).ino === fstatSync(this.fd).ino;
    } catch {
      return false;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}

/** Opens a path only when it is a network namespace: the very file that was looked at, through its descriptor. */
function look(path: NetnsPath): { readonly fd: number } | Unfit {
  const found = openNsfs(pathHere(path));
  if (!('at' in found)) return found;
  try {
    const fd = openSync(`/proc/self/fd/${found.at}`, 'r');
    if (isNetns(fd)) return { fd };
    closeSync(fd);
    return { instead: 'is a namespace of another kind' };
  } finally {
    closeSync(found.at);
  }
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
  const here = pathHere(path);
  if (here === undefined) throw unreachableDirectory(path);
  mkdirSync(here.slice(0, here.lastIndexOf('/')), { recursive: true });
  removeNetnsFile(path);
  closeSync(openSync(here, 'wx', 0o444));
  stepped('kernel', 'namespace file made');
  try {
    unshareNetns();
    try {
      bindMount(THIS_THREAD, here);
      stepped('kernel', 'namespace mounted');
    } finally {
      goHome(home);
    }
    return Netns.open(path);
  } catch (error) {
    removeNetnsFile(path);
    throw error;
  }
}

/** Binds a namespace that is held open to its path again, whatever is there now. */
export function bindNetnsFile(netns: Netns, home: Netns): void {
  const here = pathHere(netns.path);
  if (here === undefined) throw unreachableDirectory(netns.path);
  removeNetnsFile(netns.path);
  closeSync(openSync(here, 'wx', 0o444));
  inside(netns, home, () => bindMount(THIS_THREAD, here));
  stepped('kernel', 'namespace mounted');
}

const unreachableDirectory = (path: NetnsPath) =>
  new KernelError(`${path} ${OUT_OF_REACH.instead}; give a directory below /run as NETNS_PATH`, { path });

/** Unmounts and unlinks; the namespace ends with its last user. */
export function removeNetnsFile(path: NetnsPath): void {
  const here = pathHere(path);
  if (here === undefined) return;
  while (unmount(here)) stepped('kernel', 'namespace unmounted');
  if (!existsSync(here)) return;
  rmSync(here, { force: true });
  stepped('kernel', 'namespace file removed');
}

export function listNetnsFiles(directory: string, prefix: string): NetnsPath[] {
  try {
    return readdirSync(pathHere(directory) ?? directory)
      .filter(name => name.startsWith(prefix))
      .map(name => `${directory}/${name}` as NetnsPath);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
