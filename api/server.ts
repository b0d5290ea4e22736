/** The HTTP API on TCP and on a unix socket: parse, one engine call, answer. */
import { chmodSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { dirname } from 'node:path';
import express, { type ErrorRequestHandler, type Express } from 'express';
import type { Engine } from '../engine/engine.js';
import { describeError, type ErrorKind, InvalidError, toSandError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import { networkRoutes } from './networks.js';

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

const STATUS: Readonly<Record<ErrorKind, number>> = {
  invalid: 400,
  'not-found': 404,
  conflict: 409,
  exhausted: 409,
  unavailable: 503,
  kernel: 500,
};

/** The application without a door, as tests use it. */
export function apiApp(engine: Engine, version: string, log: Logger): Express {
  const app = express();
  app.disable('x-powered-by');
  app.set('etag', false);
  app.use(express.json({ limit: '256kb', strict: true }));
  app.get('/version', (_request, response) => {
    response.json({ version });
  });
  app.use('/networks', networkRoutes(engine));
  app.use((request, response) => {
    response
      .status(404)
      .json({ error: `No ${request.method} ${request.path} here; see the API's documentation` });
  });
  app.use(errors(log));
  return app;
}

/** The only place where an HTTP error is written. */
const errors =
  (log: Logger): ErrorRequestHandler =>
  (thrown, request, response, _next) => {
    const error = toSandError(fromParser(thrown));
    const status = STATUS[error.kind];
    const facts = { method: request.method, path: request.path, err: describeError(error) };
    if (status >= 500) log.warn('request failed', facts);
    response.status(status).json({ error: error.message, code: error.kind, details: error.facts });
  };

/** express's own refusals of a body bear a status below 500. */
function fromParser(thrown: unknown): unknown {
  const { status, message } = thrown as { status?: unknown; message?: string };
  if (typeof status !== 'number' || status >= 500) return thrown;
  return new InvalidError(`The request body is refused: ${message}`, { field: 'body', cause: thrown });
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
