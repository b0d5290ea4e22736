/**
 * The calling thread's network namespace. A thread stays at home, the namespace it began in, but for synchronous
 * sections: a thread of libuv's pool that were started inside one would stay in the foreign namespace for good.
 */
import { openSync } from 'node:fs';
import { setNetns } from './socket.js';

/** /proc/self is the main thread, whichever thread looks. */
export const OWN_NETNS = '/proc/thread-self/ns/net';

let home: number | undefined;

/** The namespace that the thread began in; open for as long as the thread lives. */
export function homeNetns(): number {
  home ??= openSync(OWN_NETNS, 'r');
  return home;
}

/** Runs `work`, which is synchronous and starts nothing that is not, inside the namespace. */
export function inside<T>(netnsFd: number, work: () => T): T {
  const back = homeNetns();
  setNetns(netnsFd);
  try {
    return work();
  } finally {
    returnTo(back);
  }
}

/** A thread that is lost in a foreign namespace is of no use any more: it ends, and the main thread starts another. */
export function returnTo(netnsFd: number): void {
  try {
    setNetns(netnsFd);
  } catch {
    process.exit(1); // in a worker: ends the thread alone
  }
}
