/** The driver at a second unix socket, `--driver sand` beside `--driver sand-net:latest`; nobody's place is taken. */
import { createServer, type Server } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { listenUnix } from '../listen/unix-socket.js';
import { describeError } from '../model/errors.js';
import { type Logger, rateLimited } from '../model/log.js';
import type { PluginServer } from '../plugin/server.js';

const AGAIN_MS = 5_000; // chosen: as for a taken TCP port

export class ShortSocket implements AsyncDisposable {
  readonly #stop = new AbortController();
  #server: Server | undefined;
  #listening: Promise<void> = Promise.resolve();

  private constructor() {}

  /** Returns at once: what another process serves is left alone, and tried for again. */
  static open(path: string, plugin: PluginServer, log: Logger): ShortSocket {
    const socket = new ShortSocket();
    socket.#listening = socket.#listen(path, plugin, log);
    return socket;
  }

  async #listen(path: string, plugin: PluginServer, log: Logger): Promise<void> {
    const { signal } = this.#stop;
    const quiet = rateLimited(log);
    while (!signal.aborted) {
      const server = createServer();
      plugin.attach(server);
      try {
        await listenUnix(server, path, { mode: 0o600, flag: '--short-socket' });
        this.#server = server;
        return log.info('driver served under its short name', { path });
      } catch (error) {
        quiet.warn('short name of the driver not served, trying again', { path, err: describeError(error) });
        await sleep(AGAIN_MS, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  /** Removes the socket if it is ours. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#listening;
    const server = this.#server;
    if (!server) return;
    const closing = new Promise(resolve => server.close(resolve));
    server.closeAllConnections();
    await closing;
  }
}
