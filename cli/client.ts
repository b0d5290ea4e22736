/** A typed client of the SAND API, over TCP, TLS or a unix socket. */
import { readFileSync } from 'node:fs';
import { type ClientRequest, type IncomingMessage, request as plainRequest } from 'node:http';
import { request as tlsRequest } from 'node:https';
import type { NetworkJson } from '../api/schemas.js';
import { InvalidError, NotFoundError, UnavailableError } from '../model/errors.js';

export interface ClientOptions {
  /** `http://…`, `https://…` or `unix:///run/sand/api.sock`. */
  readonly apiUrl: string;
  readonly timeoutMs?: number;
  readonly tls?: { readonly cert?: string; readonly key?: string; readonly ca?: string };
}

export interface NetworkWish {
  readonly id?: string | undefined;
  readonly name?: string | undefined;
  readonly ip_range?: string | undefined;
  readonly gateway?: string | undefined;
  readonly mtu?: number | undefined;
}

export type { NetworkJson };

/** The agent refused the request; `status` is HTTP's, the message the agent's. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

/** `30s`, `1m`, `500ms` or a bare number of seconds, in milliseconds. */
export function parseDuration(text: string): number {
  const [, number, unit = 's'] = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text) ?? [];
  if (number === undefined)
    throw new InvalidError(`--timeout is ${text}; it must be a duration such as 30s or 1m`);
  return Number(number) * { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }[unit as 'ms' | 's' | 'm' | 'h'];
}

export class SandClient {
  readonly #options: ClientOptions;
  readonly #url: URL;

  /** @throws InvalidError: the URL is none. */
  constructor(options: ClientOptions) {
    this.#options = options;
    const url = URL.canParse(options.apiUrl) ? new URL(options.apiUrl) : undefined;
    if (!url || !['http:', 'https:', 'unix:'].includes(url.protocol)) {
      throw new InvalidError(`API URL is ${options.apiUrl}; it must begin with http://, https:// or unix://`);
    }
    this.#url = url;
  }

  async version(): Promise<string> {
    return (await this.#call<{ version: string }>('GET', '/version')).version;
  }

  async networks(): Promise<NetworkJson[]> {
    return (await this.#call<{ networks: NetworkJson[] }>('GET', '/networks')).networks;
  }

  async createNetwork(wish: NetworkWish): Promise<NetworkJson> {
    return (await this.#call<{ network: NetworkJson }>('POST', '/networks', wish)).network;
  }

  async #call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const { status, text } = await this.#exchange(method, path, body);
    if (status >= 200 && status < 300) return (text === '' ? {} : JSON.parse(text)) as T;
    const message = errorOf(text) ?? `${method} ${path} was answered with status ${status}`;
    throw status === 404 ? new NotFoundError(message) : new ApiError(status, message);
  }

  #exchange(method: string, path: string, body: unknown): Promise<{ status: number; text: string }> {
    const timeoutMs = this.#options.timeoutMs ?? 30_000;
    return new Promise((resolve, reject) => {
      const fail = (error: Error) => reject(this.#unreachable(error));
      const request = this.#request(method, path, async response => {
        try {
          resolve({ status: response.statusCode ?? 0, text: await textOf(response) });
        } catch (error) {
          fail(error as Error);
        }
      });
      request.setTimeout(timeoutMs, () =>
        request.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)),
      );
      request.on('error', fail);
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  #request(method: string, path: string, answered: (response: IncomingMessage) => void): ClientRequest {
    const headers = { 'Content-Type': 'application/json' };
    if (this.#url.protocol === 'unix:') {
      return plainRequest({ socketPath: this.#url.pathname, method, path, headers }, answered);
    }
    const { cert, key, ca } = this.#options.tls ?? {};
    const file = (name: string | undefined) => (name ? readFileSync(name) : undefined);
    const options = { method, headers, cert: file(cert), key: file(key), ca: file(ca) };
    const url = new URL(path, this.#url);
    return url.protocol === 'https:'
      ? tlsRequest(url, options, answered)
      : plainRequest(url, options, answered);
  }

  #unreachable(cause: Error): UnavailableError {
    return new UnavailableError(
      `No agent answers at ${this.#options.apiUrl} (${cause.message}); is sand-agent running, is --api-url right?`,
      { cause },
    );
  }
}

async function textOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

function errorOf(text: string): string | undefined {
  try {
    const { error } = JSON.parse(text) as { error?: unknown };
    return typeof error === 'string' ? error : undefined;
  } catch {
    return undefined;
  }
}
