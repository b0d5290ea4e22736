/** How bytes reach the agent: requests over one keep-alive agent, tunnels over a connection each. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import * as http from 'node:http';
import * as https from 'node:https';
import { isIP, connect as netConnect, type Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { InvalidError, reasonOf, refusal, UnavailableError } from './errors.js';

export interface ClientOptions {
  /** `http://…`, `https://…` or `unix:///run/sand/api.sock`. */
  readonly apiUrl: string;
  /** From the call to the end of its answer, 0 for no limit; of a tunnel to its beginning. Default 30,000. */
  readonly timeoutMs?: number;
  /** Paths of PEM files, read with the first request. */
  readonly tls?: {
    readonly cert?: string | undefined;
    readonly key?: string | undefined;
    readonly ca?: string | undefined;
  };
}

export interface CallOptions {
  /** Ends the call, which throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

const TIMER_MAX_MS = 0x7fff_ffff; // Node fires a longer timer at once
const REFUSAL_MAX_BYTES = 65_536; // chosen: longer is no refusal of an agent

export class Transport implements Disposable {
  readonly #url: URL;
  readonly #options: ClientOptions;
  #agent: http.Agent | undefined;
  #files: { cert?: Buffer; key?: Buffer; ca?: Buffer } | undefined;

  /** @throws InvalidError: the URL is none. */
  constructor(options: ClientOptions) {
    this.#options = options;
    this.#url = parseApiUrl(options.apiUrl);
  }

  /** The text of the answer. @throws ClientError, or the signal's reason */
  async call(method: string, path: string, options: CallOptions & { body?: unknown } = {}): Promise<string> {
    const { body, signal } = options;
    for (;;) {
      const request = this.#request(method, path, body);
      try {
        const { status, text } = await this.#within(request, receiveText, signal);
        if (status >= 200 && status < 300) return text;
        throw refusal(`${method} ${path}`, status, text);
      } catch (error) {
        // The agent closed an idle connection while the request was on its way.
        const stale = request.reusedSocket && ((error as Error).cause as { code?: string })?.code;
        if (method !== 'GET' || stale !== 'ECONNRESET') throw error;
      }
    }
  }

  /** The byte stream behind a CONNECT; each side may end first. @throws ClientError, or the signal's reason */
  async tunnel(path: string, { signal }: CallOptions = {}): Promise<Socket> {
    const request = http.request({
      method: 'CONNECT',
      path,
      headers: { Host: this.#url.host || 'localhost' },
      createConnection: () => this.#dial(),
    });
    request.end();
    const answer = await this.#within(request, receiveTunnel, signal);
    if ('socket' in answer) return answer.socket;
    throw refusal(`CONNECT ${path}`, answer.status, answer.text);
  }

  #request(method: string, path: string, body: unknown): http.ClientRequest {
    const { request, Agent } = this.#url.protocol === 'https:' ? https : http;
    this.#agent ??= new Agent({ keepAlive: true });
    const text = body === undefined ? undefined : JSON.stringify(body);
    const headers = text === undefined ? {} : { 'Content-Type': 'application/json' };
    const outgoing = request({ ...this.#door(), method, path, headers, agent: this.#agent });
    outgoing.end(text);
    return outgoing;
  }

  /** Waits for what `receive` gives, and no longer than time limit and signal allow. */
  async #within<T>(
    request: http.ClientRequest,
    receive: (request: http.ClientRequest) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const { timeoutMs = 30_000 } = this.#options;
    let stopped: unknown;
    const stop = (reason: unknown) => {
      stopped = reason;
      request.destroy();
    };
    const late = () => stop(this.#unreachable(new Error(`no answer within ${timeoutMs / 1000} s`)));
    const timer = timeoutMs > 0 ? setTimeout(late, Math.min(timeoutMs, TIMER_MAX_MS)) : undefined;
    const aborted = () => stop(signal?.reason);
    signal?.addEventListener('abort', aborted);
    request.on('error', () => {}); // also after what `receive` waits for
    if (signal?.aborted) aborted();
    try {
      return await receive(request);
    } catch (error) {
      throw stopped ?? this.#unreachable(error as Error);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', aborted);
    }
  }

  /** Where the agent is, as Node's requests and connections take it. */
  #door() {
    const { protocol, hostname, port, pathname } = this.#url;
    if (protocol === 'unix:') return { socketPath: decodeURIComponent(pathname) };
    const host = hostname.replace(/^\[(.*)\]$/, '$1');
    if (protocol === 'http:') return { host, port: Number(port || 80) };
    return { host, port: Number(port || 443), ...this.#tls() };
  }

  /** A connection that stays open for writing after the other side has ended. */
  #dial(): Socket {
    const door = this.#door();
    if (door.socketPath !== undefined) return netConnect({ path: door.socketPath, allowHalfOpen: true });
    const options = { ...door, allowHalfOpen: true, noDelay: true };
    if (this.#url.protocol === 'http:') return netConnect(options);
    return tlsConnect({ ...options, ...(isIP(door.host) ? {} : { servername: door.host }) });
  }

  #tls() {
    const { cert, key, ca } = this.#options.tls ?? {};
    this.#files ??= {
      ...(cert && { cert: readPem('certificate', cert) }),
      ...(key && { key: readPem('key', key) }),
      ...(ca && { ca: readPem('CA', ca) }),
    };
    return this.#files;
  }

  #unreachable(cause: Error): UnavailableError {
    const { apiUrl } = this.#options;
    return new UnavailableError(
      `No agent answers at ${apiUrl} (${reasonOf(cause)}); is sand-agent running, is the API URL right?`,
      { cause },
    );
  }

  [Symbol.dispose](): void {
    this.#agent?.destroy();
  }
}

function parseApiUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !['http:', 'https:', 'unix:'].includes(url.protocol)) {
    throw new InvalidError(`API URL is ${text}; it must begin with http://, https:// or unix://`);
  }
  if (url.protocol === 'unix:' && (url.host || url.pathname === '')) {
    throw new InvalidError(`API URL is ${text}; a socket is named like unix:///run/sand/api.sock`);
  }
  return url;
}

function readPem(what: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new InvalidError(`The ${what} file ${path} is not readable (${(cause as Error).message})`, {
      cause,
    });
  }
}

async function receiveText(request: http.ClientRequest): Promise<Answer> {
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() };
}

/** Node hands over the socket for every answer to a CONNECT: the text of a refusal is still in it. */
async function receiveTunnel(request: http.ClientRequest): Promise<Answer | { readonly socket: Socket }> {
  const [{ statusCode = 0, headers }, socket, head] = (await once(request, 'connect')) as [
    http.IncomingMessage,
    Socket,
    Buffer,
  ];
  if (head.length > 0) socket.unshift(head);
  if (statusCode === 200) return { socket };
  const length = Number(headers['content-length'] ?? REFUSAL_MAX_BYTES);
  return { status: statusCode, text: await firstBytes(socket, Math.min(length, REFUSAL_MAX_BYTES)) };
}

async function firstBytes(socket: Socket, count: number): Promise<string> {
  const chunks: Buffer[] = [];
  let got = 0;
  if (count > 0) {
    for await (const chunk of socket) {
      chunks.push(chunk as Buffer);
      got += (chunk as Buffer).length;
      if (got >= count) break;
    }
  }
  socket.destroy();
  return Buffer.concat(chunks).subarray(0, count).toString();
}
