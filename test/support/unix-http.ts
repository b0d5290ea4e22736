import { Agent, type IncomingHttpHeaders, request } from 'node:http';

export interface UnixRequest {
  /** Path of the unix socket, at most 107 bytes. */
  readonly socket: string;
  readonly method?: 'GET' | 'POST' | 'DELETE' | 'PUT';
  /** Default `/`. */
  readonly path?: string;
  /** Replaces the usual headers; `Content-Length` is always sent. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Default 60,000: longer than dockerd's own limit. */
  readonly timeoutMs?: number;
}

export interface UnixResponse {
  readonly status: number;
  readonly text: string;
  readonly headers: IncomingHttpHeaders;
  /** From connect to the last byte. */
  readonly ms: number;
}

/** One HTTP request over a unix socket, on a connection of its own. @throws {Error} when there is no whole answer. */
export function unixRequest(wanted: UnixRequest): Promise<UnixResponse> {
  const { socket, method = 'GET', path = '/', headers: asked = {}, body = '', timeoutMs = 60_000 } = wanted;
  const agent = new Agent({ keepAlive: true, maxSockets: 1 }); // keepAlive: no `Connection: close` in the request
  const startedAt = performance.now();
  const answer = new Promise<UnixResponse>((resolve, reject) => {
    const outgoing = request({
      agent,
      socketPath: socket,
      method,
      path,
      setHost: false,
      headers: { Host: '', ...asked, 'Content-Length': Buffer.byteLength(body) },
      signal: AbortSignal.timeout(timeoutMs),
    });
    outgoing.on('error', reject);
    outgoing.on('response', incoming => {
      const chunks: Buffer[] = [];
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
      incoming.on('error', reject);
      incoming.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        const { statusCode: status = 0, headers } = incoming;
        resolve({ status, text, headers, ms: performance.now() - startedAt });
      });
    });
    outgoing.end(body);
  });
  return answer.finally(() => agent.destroy());
}
