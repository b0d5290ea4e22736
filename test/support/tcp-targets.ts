/** TCP servers on loopback for tests of tunnels. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Readable } from 'node:stream';

export const portOf = (server: { address(): AddressInfo | string | null }): number =>
  (server.address() as AddressInfo).port;

/** Listens on a free port of 127.0.0.1; `await using` takes it away with its connections. */
export async function listening<S extends Server>(server: S): Promise<S & AsyncDisposable> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) =>
    sockets.add(socket.once('close', () => sockets.delete(socket))),
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const dispose = async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    if (server.listening) await once(server, 'close');
  };
  return Object.assign(server, { [Symbol.asyncDispose]: dispose });
}

/** Greets, counts what comes, and answers the count only after the other side has ended. */
export const countingServer = () =>
  listening(
    createServer({ allowHalfOpen: true }, socket => {
      let count = 0;
      socket.write('hello\n');
      socket.on('data', chunk => {
        count += chunk.length;
      });
      socket.on('end', () => socket.end(`${count}\n`));
      socket.on('error', () => {});
    }),
  );

/** All that comes until the other side ends; this side stays open. */
export async function textOf(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  stream.on('data', chunk => chunks.push(chunk));
  await once(stream, 'end');
  return Buffer.concat(chunks).toString();
}
