/** One TCP port, with TLS or without, on one or more addresses; what cannot be had now is tried for in the background. */
import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { type Logger, rateLimited } from '../model/log.js';
import { type MutualTls, TLS_MIN, type TlsFiles } from './tls-files.js';

// Chosen by us.
const AGAIN_MS = 5_000;
const HANDSHAKE_MS = 10_000;
const GRACE_MS = 300; // the agent itself ends within a second

/** As `localhost` may resolve to either. */
const LOOPBACK = ['127.0.0.1', '::1'];
/** What a machine without IPv6 says of ::1. */
const NO_SUCH_ADDRESS = ['EADDRNOTAVAIL', 'EAFNOSUPPORT'];

const NO_CERTIFICATE = 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE'; // OpenSSL's reason 199

export interface TcpDoorOptions {
  /** For the log: `api`. */
  readonly door: string;
  readonly port: number;
  readonly addresses: 'all' | 'loopback' | { readonly only: string };
  /** With it clients must show a certificate of its CA. */
  readonly tls: TlsFiles | undefined;
  readonly log: Logger;
  /** Given every server before it listens, for requests and upgrades. */
  readonly attach: (server: Server) => void;
  /** Callers from other machines are ended without a word. */
  readonly callers?: 'this-host';
}

export class TcpDoor implements AsyncDisposable {
  readonly #options: TcpDoorOptions;
  readonly #log: Logger;
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #forget: () => void;
  #closed = false;

  private constructor(options: TcpDoorOptions) {
    this.#options = options;
    this.#log = rateLimited(options.log);
    this.#forget = options.tls?.onReload(now => this.#renew(now)) ?? (() => undefined);
  }

  /** Returns at once: a taken port is logged and tried again. */
  static open(options: TcpDoorOptions): TcpDoor {
    const door = new TcpDoor(options);
    const { addresses } = options;
    if (addresses === 'all') door.#listen(undefined);
    else if (addresses === 'loopback') for (const address of LOOPBACK) door.#listen(address);
    else door.#listen(addresses.only);
    return door;
  }

  /** Where it listens now. */
  get listening(): readonly AddressInfo[] {
    return this.#servers.flatMap(server => (server.listening ? [server.address() as AddressInfo] : []));
  }

  #listen(host: string | undefined): void {
    const { door, port, tls, log, attach } = this.#options;
    const server = tls ? this.#tlsServer(tls) : createServer();
    server.on('connection', socket => this.#welcome(socket));
    attach(server);
    const listen = () => server.listen({ port, ...(host === undefined ? {} : { host }) });
    const facts = { door, port, address: host ?? 'all' };
    server.on('error', (error: NodeJS.ErrnoException) => {
      if (this.#closed) return;
      if (host === '::1' && NO_SUCH_ADDRESS.includes(error.code ?? '')) return;
      if (server.listening)
        return this.#log.error('TCP connection not accepted', { ...facts, err: error.message });
      this.#log.error('TCP port not served, trying again', { ...facts, err: error.message });
      this.#later(listen);
    });
    server.on('listening', () => log.info('TCP port served', { ...facts, tls: tls !== undefined }));
    this.#servers.push(server);
    listen();
  }

  #later(act: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, AGAIN_MS);
    this.#timers.add(timer.unref());
  }

  #tlsServer(tls: TlsFiles): TlsServer {
    const server = createTlsServer({
      ...secureOptions(tls.current()),
      requestCert: true,
      rejectUnauthorized: true,
      handshakeTimeout: HANDSHAKE_MS,
    });
    const { door, log } = this.#options;
    server.on('tlsClientError', (error: NodeJS.ErrnoException, socket: TLSSocket) => {
      // Anything but a certificate, or none, is a scanner or plain HTTP.
      const reason = error.code === NO_CERTIFICATE ? error.code : (socket.authorizationError as unknown);
      const facts = { door, peer: socket.remoteAddress };
      if (reason) this.#log.warn('TLS client refused', { ...facts, reason: String(reason) });
      else log.debug('TLS handshake not finished', { ...facts, reason: error.code ?? error.message });
    });
    return server;
  }

  /** For connections from now on. */
  #renew(now: MutualTls): void {
    for (const server of this.#servers as TlsServer[]) server.setSecureContext(secureOptions(now));
  }

  #welcome(socket: Socket): void {
    if (this.#options.callers === 'this-host' && !isFromHere(socket)) {
      this.#log.warn('TCP caller from elsewhere refused', {
        door: this.#options.door,
        peer: socket.remoteAddress,
      });
      socket.destroy();
      return;
    }
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
  }

  /** Ends idle connections at once and all others, tunnels too, after a moment for their answers. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#forget();
    for (const timer of this.#timers) clearTimeout(timer);
    const closing = this.#servers.map(server => new Promise(resolve => server.close(resolve)));
    for (const server of this.#servers) server.closeIdleConnections();
    const late = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, GRACE_MS);
    await Promise.all(closing);
    clearTimeout(late);
  }
}

const secureOptions = ({ cert, key, ca }: MutualTls) => ({ cert, key, ca, minVersion: TLS_MIN }) as const;

/**
 * Whether the caller is a process of this machine: the kernel gives a connection to an own address that address as its
 * source, and drops packets from outside that bear one of its own (accept_local in ip-sysctl).
 */
function isFromHere({ remoteAddress = '', localAddress }: Socket): boolean {
  const address = remoteAddress.replace(/^::ffff:/, '');
  return address === '::1' || address.startsWith('127.') || remoteAddress === localAddress;
}
