/** One HTTP connection to a unix socket that stays open, as dockerd and patient clients of the API have it. */
import { Agent, request } from 'node:http';

export interface Answer {
  readonly status: number;
  readonly text: string;
}

export class Connection {
  readonly #socketPath: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });

  constructor(socketPath: string, headers: Readonly<Record<string, string>>) {
    this.#socketPath = socketPath;
    this.#headers = headers;
  }

  send(method: string, path: string, body = ''): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const outgoing = request({
        agent: this.#agent,
        socketPath: this.#socketPath,
        method,
        path,
        setHost: false,
        headers: { ...this.#headers, 'Content-Length': Buffer.byteLength(body) },
      });
      outgoing.on('error', reject);
      outgoing.on('response', incoming => {
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.on('error', reject);
        incoming.on('end', () =>
          resolve({ status: incoming.statusCode ?? 0, text: Buffer.concat(chunks).toString() }),
        );
      });
      outgoing.end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
