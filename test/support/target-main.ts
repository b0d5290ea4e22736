/** What a tunnel leads to: TCP servers of several manners, run in a namespace of their own. Prints `ready`. */
import { createServer, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { type Digest, Digester, pattern } from './pattern.js';
import { PORTS } from './target-ports.js';

let farewells: Digest = new Digester().end();

async function digestOf(socket: Socket): Promise<Digest> {
  const digester = new Digester();
  const whole = socket.iterator({ destroyOnReturn: false }); // it has yet to answer
  for await (const chunk of whole) digester.add(chunk as Buffer);
  return digester.end();
}

const manners: Readonly<Record<keyof typeof PORTS, (socket: Socket) => unknown>> = {
  echo: socket => socket.pipe(socket),
  greet: socket => {
    socket.write('hello\n');
    socket.pipe(socket);
  },
  digest: async socket => socket.end(JSON.stringify(await digestOf(socket.setKeepAlive()))),
  source: socket =>
    socket.once('data', line =>
      pipeline(pattern(Number(line)), socket, { end: true }).catch(() => undefined),
    ),
  farewell: async socket => {
    socket.end('bye');
    farewells = await digestOf(socket);
  },
  farewells: socket => socket.end(JSON.stringify(farewells)),
  reset: socket => socket.once('data', () => socket.resetAndDestroy()),
};

for (const [manner, port] of Object.entries(PORTS)) {
  const serve = manners[manner as keyof typeof PORTS];
  const server = createServer({ allowHalfOpen: true }, socket => {
    socket.on('error', () => undefined);
    Promise.resolve(serve(socket)).catch(() => undefined);
  });
  server.listen({ port, host: '0.0.0.0', backlog: 4_096 });
  await new Promise(resolve => server.once('listening', resolve));
}
process.stdout.write('ready\n');
