/**
 * The unix socket that dockerd calls. Imports next to nothing: the socket must answer within 400 ms of the start,
 * whatever the rest of the agent is doing, or a managed plugin is disabled for good.
 *
 * Every error goes out under both keys, `Err` (network driver) and `Error` (IPAM driver): under the wrong one
 * Docker takes it for success. Status 200, since only then Docker shows the text without its own decoration.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { listenUnix } from '../listen/unix-socket.js';
import { describeError, InvalidError, toSandError, UnavailableError } from '../model/errors.js';
import type { Logger } from '../model/log.js';

// Chosen by us.
const BODY_MAX_BYTES = 256 * 1024; // Docker's largest request is a few kilobytes
const NEVER = 0; // Node's word for it
const DEADLINE_MS = 12_000; // Docker waits 30 s for a managed plugin, and repeats after that without a body

/** What a method answers, and how to take back what it did when nobody is there to hear the answer. */
export interface Outcome {
  readonly answer: object;
  readonly undo?: () => Promise<void>;
}
export type Method = (body: unknown) => Promise<Outcome>;
export type Methods = Readonly<Record<string, Method>>;

/** The same methods behind a check that throws what stands in the way of all of them. */
export const checked = (methods: Methods, check: () => void): Methods =>
  Object.fromEntries(
    Object.entries(methods).map(([name, method]) => [
      name,
      async (body: unknown) => {
        check();
        return method(body);
      },
    ]),
  );

/** Answered without the engine, so that activation never waits. Scope local: docs/decisions/0006. */
const IMMEDIATE: Readonly<Record<string, object>> = {
  'Plugin.Activate': { Implements: ['NetworkDriver', 'IpamDriver'] },
  'NetworkDriver.GetCapabilities': { Scope: 'local', ConnectivityScope: 'global' },
  'IpamDriver.GetCapabilities': { RequiresMACAddress: false, RequiresRequestReplay: false },
  'IpamDriver.GetDefaultAddressSpaces': {
    LocalDefaultAddressSpace: 'sandlocal',
    GlobalDefaultAddressSpace: 'sandglobal',
  },
};

export interface PluginServerOptions {
  readonly path: string;
  /** Resolves when the engine is there. */
  readonly methods: Promise<Methods>;
  /** Why the engine is not there and will not be in a moment. */
  readonly obstacle?: () => Error | undefined;
  /** Resolves early; until then nothing is logged. */
  readonly log: Promise<Logger>;
  readonly deadlineMs?: number;
}

export class PluginServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #options: PluginServerOptions;
  readonly #undoing = new Set<Promise<void>>();

  private constructor(options: PluginServerOptions) {
    this.#options = options;
    this.#server = createServer();
    this.attach(this.#server);
  }

  /** @throws ConflictError when a living process serves the socket; a stale one is replaced. */
  static async listen(options: PluginServerOptions): Promise<PluginServer> {
    const plugin = new PluginServer(options);
    await listenUnix(plugin.#server, options.path, { mode: 0o600, flag: '--plugin-socket' });
    return plugin;
  }

  /** Answers Docker on this server too; whoever made it closes it. */
  attach(server: Server): void {
    // dockerd sends a call again, without its body, when a connection ends under it.
    server.keepAliveTimeout = NEVER;
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      void this.#serve(request, response);
    });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const method = (request.url ?? '').slice(1);
    const immediate = IMMEDIATE[method];
    try {
      const text = await readBody(request);
      if (request.method !== 'POST') return reply(response, 405, errorBody('Docker calls with POST'));
      if (Object.hasOwn(IMMEDIATE, method)) return reply(response, 200, immediate ?? {});
      await this.#answer(method, text, response);
    } catch (error) {
      reply(response, 200, errorBody(toSandError(error).message));
    }
  }

  async #answer(method: string, text: string, response: ServerResponse): Promise<void> {
    const log = await this.#options.log;
    const began = performance.now();
    const deadline = deadlineIn(this.#options.deadlineMs ?? DEADLINE_MS, method);
    const gone = closed(response);
    const work = this.#run(method, text);
    try {
      const outcome = await Promise.race([work, deadline.promise, gone]);
      if (outcome === undefined) return reply(response, 404, errorBody(`No method ${method}`));
      reply(response, 200, outcome.answer);
      log.debug('docker call', { method, ms: Math.round((performance.now() - began) * 10) / 10 });
    } catch (error) {
      const { kind, message } = toSandError(error);
      log.warn('docker call refused', { method, kind, err: describeError(error) });
      reply(response, 200, errorBody(message));
      this.#undoLater(method, work, log);
    } finally {
      deadline.clear();
    }
  }

  async #run(method: string, text: string): Promise<Outcome | undefined> {
    const obstacle = this.#options.obstacle?.();
    if (obstacle) throw obstacle;
    const methods = await this.#options.methods;
    if (!Object.hasOwn(methods, method)) return undefined;
    return methods[method]?.(parseBody(method, text));
  }

  /** The caller has its error: work that finishes all the same is taken back. */
  #undoLater(method: string, work: Promise<Outcome | undefined>, log: Logger): void {
    const undo = work
      .then(
        outcome => outcome?.undo?.(),
        () => undefined,
      )
      .catch(error => log.error('late work not taken back', { method, err: describeError(error) }))
      .finally(() => this.#undoing.delete(undo));
    this.#undoing.add(undo);
  }

  /** Closes the socket, which removes it, and ends idle connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closing = new Promise(resolve => this.#server.close(resolve));
    this.#server.closeIdleConnections();
    setTimeout(() => this.#server.closeAllConnections(), 300).unref();
    await closing;
    await Promise.race([
      Promise.all(this.#undoing),
      new Promise(resolve => setTimeout(resolve, 300).unref()),
    ]);
  }
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    // Read on to the end, without keeping: the answer comes after the request.
    if (size <= BODY_MAX_BYTES) chunks.push(chunk);
  }
  if (size > BODY_MAX_BYTES) {
    throw new InvalidError(`The request body has ${size} bytes; at most ${BODY_MAX_BYTES} are taken`, {
      field: 'body',
    });
  }
  return Buffer.concat(chunks).toString();
}

function parseBody(method: string, text: string): unknown {
  if (text === '') {
    throw new InvalidError(
      `The body of ${method} is empty: Docker repeats a request so after a lost connection. Nothing was done; try again`,
      { field: 'body' },
    );
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new InvalidError(`The body of ${method} is not JSON (${(cause as Error).message})`, {
      field: 'body',
      cause,
    });
  }
}

function deadlineIn(ms: number, method: string) {
  let timer: NodeJS.Timeout | undefined;
  const promise = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(
        new UnavailableError(`${method} found no end within ${ms / 1000} s and is taken back; try again`),
      );
    }, ms);
  });
  return { promise, clear: () => clearTimeout(timer) };
}

const closed = (response: ServerResponse) =>
  new Promise<never>((_, reject) => {
    response.once('close', () => {
      if (!response.writableFinished) reject(new UnavailableError('Docker has closed the connection'));
    });
  });

const errorBody = (text: string) => ({ Err: text, Error: text });

function reply(response: ServerResponse, status: number, body: object): void {
  if (response.destroyed || response.writableEnded) return;
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'Content-Type': 'application/vnd.docker.plugins.v1.2+json',
    'Content-Length': Buffer.byteLength(text),
  });
  response.end(text);
}
