/** The doors of the HTTP API: TCP, with or without TLS, and a unix socket. */
import { chmodSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { dirname } from 'node:path';
import type { Express } from 'express';
import type { Engine } from '../engine/engine.js';
import type { Logger } from '../model/log.js';
import { apiApp } from './app.js';

const LISTEN_AGAIN_MS = 5_000;

export interface ApiOptions {
  readonly port: number;
  /** Default: loopback, or all addresses with TLS. */
  readonly listen: string | undefined;
  readonly socketPath: string;
  readonly tls: { readonly cert: string; readonly key: string; readonly ca: string } | undefined;
  readonly version: string;
  readonly log: Logger;
}

export class ApiServer implements AsyncDisposable {
  readonly #servers: Server[] = [];
  readonly #stop = new AbortController();

  private constructor() {}

  /** Opens both doors; a taken TCP port is logged and tried again, since the other doors still serve. */
  static async listen(engine: Engine, options: ApiOptions): Promise<ApiServer> {
    const api = new ApiServer();
    const app = apiApp(engine, options.version, options.log);
    const unix = createServer(app);
    mkdirSync(dirname(options.socketPath), { recursive: true });
    rmSync(options.socketPath, { force: true });
    await new Promise<void>((resolve, reject) => {
      unix.once('error', reject).listen(options.socketPath, resolve);
    });
    chmodSync(options.socketPath, 0o660);
    api.#servers.push(unix);
    api.#listenTcp(app, options);
    return api;
  }

  #listenTcp(app: Express, { port, listen, tls, log }: ApiOptions): void {
    const server = tls
      ? createTlsServer({ ...read(tls), requestCert: true, rejectUnauthorized: true }, app)
      : createServer(app);
    const address = listen ?? (tls ? '::' : '127.0.0.1');
    server.on('error', error => {
      log.error('API port not served, trying again', { address, port, err: error.message });
      const again = setTimeout(() => server.listen(port, address), LISTEN_AGAIN_MS);
      again.unref();
      this.#stop.signal.addEventListener('abort', () => clearTimeout(again));
    });
    server.listen(port, address, () => log.info('API listens', { address, port, tls: tls !== undefined }));
    this.#servers.push(server);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.all(
      this.#servers.map(server => {
        const closing = new Promise(resolve => server.close(resolve));
        server.closeAllConnections();
        return closing;
      }),
    );
  }
}

const read = (tls: NonNullable<ApiOptions['tls']>) => ({
  cert: readFileSync(tls.cert),
  key: readFileSync(tls.key),
  ca: readFileSync(tls.ca),
});
