/** The doors of the HTTP API: TCP, with or without TLS, and a unix socket. */
import { createServer, type Server } from 'node:http';
import type { Engine } from '../engine/engine.js';
import { TcpDoor } from '../listen/tcp-door.js';
import type { TlsFiles } from '../listen/tls-files.js';
import { listenUnix } from '../listen/unix-socket.js';
import type { Logger } from '../model/log.js';
import { apiApp } from './app.js';
import { Tunnels } from './connect.js';

/**
 * Longer than clients leave a connection idle (Go's net/http: 90 s): one that we close first takes a request along that
 * was on its way, and a POST is not sent again.
 */
const KEEP_ALIVE_MS = 120_000;

export interface ApiOptions {
  readonly port: number;
  /** Default: loopback, or all addresses with TLS. */
  readonly listen: string | undefined;
  readonly socketPath: string;
  /** Of the TCP port, for the server's side and, with `current()` at each call, for calls to other agents. */
  readonly tls: TlsFiles | undefined;
  readonly version: string;
  readonly log: Logger;
}

export class ApiServer implements AsyncDisposable {
  readonly #unix: Server;
  readonly #door: TcpDoor;
  readonly #tunnels: Tunnels;

  private constructor(unix: Server, door: TcpDoor, tunnels: Tunnels) {
    this.#unix = unix;
    this.#door = door;
    this.#tunnels = tunnels;
  }

  /**
   * Opens both doors; a taken TCP port is logged and tried again, since the other doors still serve.
   * @throws ConflictError when a living process serves the socket; a stale one is replaced.
   */
  static async listen(engine: Engine, options: ApiOptions): Promise<ApiServer> {
    const { port, listen, socketPath, tls, version, log } = options;
    const app = apiApp(engine, version, log);
    const tunnels = new Tunnels(engine, { port, log, credentials: () => tls?.current() });
    const attach = (server: Server) => {
      server.keepAliveTimeout = KEEP_ALIVE_MS;
      server.on('request', app);
      tunnels.attach(server);
    };
    const unix = createServer();
    attach(unix);
    await listenUnix(unix, socketPath, { mode: 0o660, flag: '--run-dir' });
    const addresses = listen !== undefined ? { only: listen } : tls ? 'all' : 'loopback';
    const door = TcpDoor.open({ door: 'api', port, addresses, tls, log, attach });
    return new ApiServer(unix, door, tunnels);
  }

  /** Where the API listens on TCP now. */
  get listening(): TcpDoor['listening'] {
    return this.#door.listening;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // A server's close waits for its tunnels.
    this.#tunnels[Symbol.dispose]();
    const closing = new Promise(resolve => this.#unix.close(resolve));
    this.#unix.closeAllConnections();
    await Promise.all([closing, this.#door[Symbol.asyncDispose]()]);
  }
}
