/** A CONNECT as it looks on the wire, with no HTTP client between. */
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls';
import { Digester } from './pattern.js';
import { until } from './until.js';

/** The one head of success that clients know. */
export const OK_HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n';

export interface RawAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
  /** Undefined where the text is no JSON. */
  readonly body: {
    readonly error: string;
    readonly code?: string;
    readonly details?: Record<string, unknown>;
  };
}

export class RawClient implements Disposable {
  readonly socket: Socket;
  /** What each read gave. */
  readonly reads: Buffer[] = [];
  /** When, in milliseconds. */
  readonly readAt: number[] = [];
  ended = false;
  closed = false;
  error: NodeJS.ErrnoException | undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', chunk => {
      this.reads.push(chunk);
      this.readAt.push(performance.now());
    });
    socket.on('end', () => {
      this.ended = true;
    });
    socket.on('close', () => {
      this.closed = true;
    });
    socket.on('error', error => {
      this.error = error;
    });
  }

  static to(door: NetConnectOpts): RawClient {
    return new RawClient(connect({ ...door, allowHalfOpen: true }));
  }

  static toTls(door: ConnectionOptions): RawClient {
    return new RawClient(tlsConnect({ ...door, allowHalfOpen: true } as ConnectionOptions));
  }

  /** Writes the request, and what follows in the same packet. */
  request(target: string, { headers = [] as readonly string[], behind = '' as string | Buffer } = {}): this {
    const head = [`CONNECT ${target} HTTP/1.1`, 'Host: sand', ...headers, '', ''].join('\r\n');
    this.socket.write(Buffer.concat([Buffer.from(head), Buffer.from(behind)]));
    return this;
  }

  get text(): string {
    return Buffer.concat(this.reads).toString('latin1');
  }

  /** What came behind the head of success. @throws {Error} with what came instead. */
  get received(): string {
    const { text } = this;
    if (text.startsWith(OK_HEAD)) return text.slice(OK_HEAD.length);
    throw new Error(`not opened but ${JSON.stringify(text)}`);
  }

  async opened(): Promise<this> {
    await until(() => this.text.length >= OK_HEAD.length || this.closed, { timeoutMs: 20_000, everyMs: 2 });
    this.received;
    return this;
  }

  async receives(text: string): Promise<void> {
    await this.opened();
    await until(() => this.received === text, { what: `${JSON.stringify(text)} comes`, everyMs: 2 });
  }

  /** The other side has said that it sends no more. */
  async untilEnd(): Promise<string> {
    await until(() => this.ended || this.closed, { timeoutMs: 20_000, everyMs: 2 });
    return this.received;
  }

  async untilClosed(): Promise<void> {
    await until(() => this.closed, { what: 'the connection is closed', timeoutMs: 20_000, everyMs: 2 });
  }

  /** A refusal, to its end. */
  async answer(timeoutMs = 20_000): Promise<RawAnswer> {
    await until(() => this.ended || this.closed, { timeoutMs, what: 'the answer ends', everyMs: 2 });
    this.socket.destroy();
    return parseAnswer(Buffer.concat(this.reads).toString());
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

function parseAnswer(whole: string): RawAnswer {
  const end = whole.indexOf('\r\n\r\n');
  const [first = '', ...lines] = whole.slice(0, end).split('\r\n');
  const headers = lines.map(line => [line.split(':')[0]?.toLowerCase(), line.replace(/^[^:]*: */, '')]);
  const text = whole.slice(end + 4);
  let body: RawAnswer['body'] = { error: '' };
  try {
    body = JSON.parse(text);
  } catch {}
  return { status: Number(first.split(' ')[1]), headers: Object.fromEntries(headers), text, body };
}

/** Reads a stream that begins with the head of success to its end, without keeping it. */
export async function digestBehindHead(socket: Socket) {
  const digester = new Digester();
  let head = Buffer.alloc(0);
  let inHead = true;
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    if (!inHead) digester.add(chunk);
    else {
      head = Buffer.concat([head, chunk]);
      inHead = head.length < OK_HEAD.length;
      if (!inHead) digester.add(head.subarray(OK_HEAD.length));
    }
  }
  if (!head.toString('latin1').startsWith(OK_HEAD)) throw new Error(`not opened but ${head.toString()}`);
  return digester.end();
}
