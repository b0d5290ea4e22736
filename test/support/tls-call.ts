import { Agent, request } from 'node:https';
import type { TLSSocket } from 'node:tls';

export interface TlsCall {
  readonly port: number;
  readonly ca: string;
  readonly cert?: string;
  readonly key?: string;
  readonly host?: string;
  readonly path?: string;
  /** Sent with POST; without one the call is a GET. */
  readonly body?: string;
  readonly maxVersion?: 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3';
  /** Of `tlsAgent()`: to use one connection for several calls. */
  readonly agent?: Agent;
}

export interface TlsAnswer {
  readonly status: number;
  readonly body: unknown;
  /** Common name of the server's certificate. */
  readonly server: string;
  /** Of the client's end: the same for two calls on one connection. */
  readonly localPort: number;
}

const JSON_BODY = { 'Content-Type': 'application/json' };

/** Keeps its one connection. Whoever made it destroys it. */
export const tlsAgent = () => new Agent({ keepAlive: true, maxSockets: 1 });

/** GET or POST over TLS. @throws {Error} when no answer comes, whatever ended it. */
export function tlsCall({
  port,
  host = '127.0.0.1',
  path = '/version',
  body,
  ...tls
}: TlsCall): Promise<TlsAnswer> {
  const method = body === undefined ? 'GET' : 'POST';
  return new Promise((resolve, reject) => {
    const versions =
      tls.maxVersion === 'TLSv1.1' ? { minVersion: 'TLSv1' as const, ciphers: 'ALL@SECLEVEL=0' } : {};
    const outgoing = request(
      { method, host, port, path, headers: JSON_BODY, agent: false, ...versions, ...tls },
      async incoming => {
        const socket = incoming.socket as TLSSocket;
        const server = socket.getPeerCertificate().subject.CN;
        const { localPort = 0 } = socket;
        const chunks: Buffer[] = [];
        for await (const chunk of incoming) chunks.push(chunk as Buffer);
        const answer: unknown = JSON.parse(Buffer.concat(chunks).toString());
        resolve({ status: incoming.statusCode ?? 0, body: answer, server: String(server), localPort });
      },
    );
    outgoing.setTimeout(5_000, () => outgoing.destroy(new Error('no answer within 5 s')));
    outgoing.on('error', reject).end(body);
  });
}
