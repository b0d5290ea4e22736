/** Unix sockets that nobody can connect to before they have their mode, and that take no other process's place. */
import { mkdirSync, rmSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { ConflictError, InvalidError } from '../model/errors.js';

const PATH_MAX_BYTES = 107; // sun_path of 108 with its NUL (unix(7))

export interface UnixSocketOptions {
  readonly mode: number;
  /** What gives another path, for messages: `--run-dir`. */
  readonly flag: string;
}

/**
 * Listens; a stale socket is replaced. The server's end removes it.
 * @throws ConflictError: a living process serves the socket. @throws InvalidError: the path is too long.
 */
export async function listenUnix(
  server: Server,
  path: string,
  { mode, flag }: UnixSocketOptions,
): Promise<void> {
  await checkFree(path, flag);
  mkdirSync(dirname(path), { recursive: true });
  rmSync(path, { force: true });
  const listening = new Promise<void>((resolve, reject) => {
    server.once('error', reject).once('listening', resolve);
  });
  // The socket is made within listen(), with all bits that the mask leaves.
  const before = process.umask(0o777 & ~mode);
  try {
    server.listen(path);
  } finally {
    process.umask(before);
  }
  await listening;
}

/** @throws ConflictError: a living process serves the socket. @throws InvalidError: the path is too long. */
export async function checkFree(path: string, flag: string): Promise<void> {
  if (Buffer.byteLength(path) > PATH_MAX_BYTES) {
    throw new InvalidError(
      `${path} has more than ${PATH_MAX_BYTES} bytes, too many for a unix socket; give another ${flag}`,
      { path },
    );
  }
  if (await answers(path)) {
    throw new ConflictError(`${path} is served by another process; stop it, or give another ${flag}`, {
      path,
    });
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path)
      .once('connect', () => {
        resolve(true);
        socket.destroy();
      })
      // A full queue is one of a living process.
      .once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'EAGAIN'));
  });
}
