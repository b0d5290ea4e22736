/** Agents of Node's http and https whose connections begin inside a network. */
import * as http from 'node:http';
import * as https from 'node:https';
import type { Socket } from 'node:net';
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls';
import type { buildConnector } from 'undici';

/** Opens a TCP connection inside a network. @param host IP address */
export type Dial = (host: string, port: number) => Promise<Socket>;

type Created = (error: Error | null, socket: Socket) => void;

/** Node's callback has a socket beside the error, which nobody reads. */
const failed = (callback: Created | undefined) => (error: Error) => callback?.(error, undefined as never);

export class NetworkHttpAgent extends http.Agent {
  readonly #dial: Dial;

  constructor(dial: Dial, options: http.AgentOptions = {}) {
    super(options);
    this.#dial = dial;
  }

  override createConnection(options: http.ClientRequestArgs, callback?: Created): undefined {
    this.#dial(options.host ?? '', Number(options.port ?? 80)).then(
      socket => callback?.(null, socket),
      failed(callback),
    );
  }
}

export class NetworkHttpsAgent extends https.Agent {
  readonly #dial: Dial;

  constructor(dial: Dial, options: https.AgentOptions = {}) {
    super(options);
    this.#dial = dial;
  }

  override createConnection(options: https.RequestOptions, callback?: Created): undefined {
    this.#dial(options.host ?? '', Number(options.port ?? 443)).then(socket => {
      const { path: _pathOfTheRequest, ...tls } = options as Record<string, unknown>;
      callback?.(null, tlsConnect({ ...tls, socket }));
    }, failed(callback));
  }
}

type Connector = buildConnector.connector;

/** A `connect` for undici's `Agent`, whose connections begin inside a network. */
export const connectorOver =
  (dial: Dial, tls: ConnectionOptions): Connector =>
  ({ hostname, port, protocol, servername }, callback) => {
    const host = hostname.replace(/^\[(.*)\]$/, '$1');
    const secure = protocol === 'https:';
    const dialed = (socket: Socket) => {
      if (!secure) return callback(null, socket);
      const secured = tlsConnect({ ...tls, host, socket, ...(servername && { servername }) });
      secured.once('secureConnect', () => callback(null, secured)).once('error', failed);
    };
    const failed = (error: Error) => callback(error, null);
    dial(host, Number(port || (secure ? 443 : 80))).then(dialed, failed);
  };
