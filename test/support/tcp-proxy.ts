/** A TCP proxy on loopback that does to a line what networks do: cut it, hold it up, slow it down, swallow answers. */
import { once } from 'node:events';
import { type AddressInfo, createServer, connect as dial, type Server, type Socket } from 'node:net';

interface Line {
  readonly client: Socket;
  readonly server: Socket;
}

export class TcpProxy implements AsyncDisposable {
  readonly #target: URL;
  readonly #server: Server;
  readonly #lines = new Set<Line>();
  #accepting = true;
  #swallowing = false;
  #silent = false;
  #delayMs = 0;
  /** Bytes that may still go to clients until `#atLimit` is called. */
  #allowance = Number.POSITIVE_INFINITY;
  #atLimit: () => void = () => {};

  private constructor(target: URL) {
    this.#target = target;
    this.#server = createServer(client => this.#accept(client));
  }

  /** @param target client URL of an etcd member. */
  static async open(target: string): Promise<TcpProxy> {
    const proxy = new TcpProxy(new URL(target));
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  /** What clients dial, `http://127.0.0.1:41234`. */
  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** How many connections are open. */
  get lines(): number {
    return this.#lines.size;
  }

  /** Ends every line and answers new ones with an end, until `heal`. */
  cut(): void {
    this.#accepting = false;
    this.#endAll();
  }

  heal(): void {
    this.#accepting = true;
    this.#swallowing = false;
    this.#delayMs = 0;
    if (!this.#silent) return;
    this.#silent = false;
    this.resume();
  }

  /** Nothing goes either way, and nobody is told: a cable pulled. New lines are taken, and as silent. */
  silence(): void {
    this.#silent = true;
    for (const line of this.#lines) pause(line);
  }

  /** Answers come so much later. */
  delay(ms: number): void {
    this.#delayMs = ms;
  }

  /** Ends every line; new ones are served. */
  blink(): void {
    this.#endAll();
    this.heal();
  }

  /** Servers' answers go nowhere, requests go on. */
  swallowAnswers(): void {
    this.#swallowing = true;
  }

  /** Resolves when `bytes` more have gone to clients, and every line has been ended for that. */
  cutAfter(bytes: number): Promise<void> {
    return this.#after(bytes, () => this.#endAll());
  }

  /** Resolves when `bytes` more have gone to clients, and nothing goes on until `resume`. */
  stallAfter(bytes: number): Promise<void> {
    return this.#after(bytes, () => {
      for (const { server } of this.#lines) server.pause();
    });
  }

  resume(): void {
    for (const { client, server } of this.#lines) {
      client.resume();
      server.resume();
    }
  }

  #after(bytes: number, act: () => void): Promise<void> {
    this.#allowance = bytes;
    return new Promise(resolve => {
      this.#atLimit = () => {
        this.#atLimit = () => {};
        this.#allowance = Number.POSITIVE_INFINITY;
        act();
        resolve();
      };
    });
  }

  #accept(client: Socket): void {
    if (!this.#accepting) {
      client.destroy();
      return;
    }
    const server = dial(Number(this.#target.port), this.#target.hostname);
    const line = { client, server };
    this.#lines.add(line);
    client.on('data', chunk => server.write(chunk));
    server.on('data', chunk => {
      if (this.#delayMs > 0) setTimeout(() => this.#pass(chunk, client), this.#delayMs);
      else this.#pass(chunk, client);
    });
    if (this.#silent) pause(line);
    for (const socket of [client, server]) {
      socket.on('error', () => this.#end(line));
      socket.on('close', () => this.#end(line));
    }
  }

  #pass(chunk: Buffer, client: Socket): void {
    if (this.#swallowing) return;
    client.write(chunk);
    this.#allowance -= chunk.length;
    if (this.#allowance <= 0) this.#atLimit();
  }

  #endAll(): void {
    for (const line of this.#lines) this.#end(line);
  }

  #end(line: Line): void {
    this.#lines.delete(line);
    line.client.destroy();
    line.server.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

function pause({ client, server }: Line): void {
  client.pause();
  server.pause();
}
