/**
 * An API with nothing but /networks/{name} and CONNECT, whose every network is this machine's loopback: for clients
 * of the tunnel. It is no agent, and looks at ip and port only.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect as dial, type Socket } from 'node:net';

export const NETWORK_ID = '6ffc3990-b212-47f2-a5d1-2afe7526e548';

export class TunnelStandIn implements AsyncDisposable {
  readonly #server = createServer((request, response) => {
    const known = request.url === '/networks/shop' || request.url === `/networks/${NETWORK_ID}`;
    response.writeHead(known ? 200 : 404, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify(known ? { network: { id: NETWORK_ID, name: 'shop' } } : NO_NETWORK));
  });
  readonly #sockets = new Set<Socket>();
  /** Request lines of the tunnels asked for. */
  readonly asked: string[] = [];
  /** Sends the first bytes of a target together with the head, as an agent of the original may. */
  headWithFirstBytes = false;

  static async open(): Promise<TunnelStandIn> {
    const standIn = new TunnelStandIn();
    standIn.#server.on('connect', (request: IncomingMessage, socket: Socket) =>
      standIn.#connect(request, socket),
    );
    standIn.#server.on('connection', socket => standIn.#sockets.add(socket));
    standIn.#server.listen(0, '127.0.0.1');
    await once(standIn.#server, 'listening');
    return standIn;
  }

  get apiUrl(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  #connect(request: IncomingMessage, client: Socket): void {
    this.asked.push(request.url ?? '');
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://agent');
    if (!/^\/networks\/(shop|6ffc3990.*)$/.test(pathname)) {
      refuse(client, '404 Not Found', NO_NETWORK);
      return;
    }
    const target = dial({
      host: searchParams.get('ip') ?? '',
      port: Number(searchParams.get('port')),
      allowHalfOpen: true,
    });
    target.once('error', error =>
      refuse(client, '502 Bad Gateway', { error: `target refuses: ${error.message}`, code: 'unavailable' }),
    );
    target.once('connect', () => {
      target.removeAllListeners('error').on('error', () => client.destroy());
      client.on('error', () => target.destroy());
      const head = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n';
      const begin = (first: Buffer | string) => {
        client.write(Buffer.concat([Buffer.from(head), Buffer.from(first)]));
        client.pipe(target).pipe(client);
      };
      if (this.headWithFirstBytes) target.once('data', begin);
      else begin('');
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

const NO_NETWORK = { error: 'No network is named so', code: 'not-found' };

function refuse(client: Socket, status: string, body: object): void {
  const text = JSON.stringify(body);
  client.end(
    `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  );
}
