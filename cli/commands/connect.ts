import { once } from 'node:events';
import { type AddressInfo, createServer, isIP, type Server, type Socket } from 'node:net';
import type { SandClient, Target } from '../client.js';
import { command, network, UsageError } from '../command.js';

interface Listen {
  readonly host: string;
  readonly port: number;
}

/** `8080`, `0.0.0.0:8080` or `[::1]:8080`. */
function parseListen(text: string): Listen {
  const [, host = '127.0.0.1', port = ''] = /^(?:(.+):)?(\d+)$/.exec(text) ?? [];
  const bare = host.replace(/^\[(.*)\]$/, '$1');
  if (isIP(bare) === 0 || port === '' || Number(port) > 65_535) {
    throw new UsageError(
      `--listen is ${text}; it must be a port or an address and a port, such as 127.0.0.1:8080`,
    );
  }
  return { host: bare, port: Number(port) };
}

const show = (address: string | undefined, port: number | undefined) =>
  address?.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;

const report = (text: string) => process.stderr.write(`sand-agent-cli: ${text}\n`);

/** Both ways, each with its own end and its own pace; a broken side breaks the other. */
function join(one: Socket, other: Socket, onError: (error: Error) => void): void {
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    from.on('error', error => {
      if (!to.destroyed) onError(error);
      to.destroy();
    });
    from.on('close', () => {
      if (!from.readableEnded) to.destroy();
    });
    from.pipe(to);
  }
}

async function forward(client: SandClient, target: Target, local: Socket): Promise<void> {
  const who = show(local.remoteAddress, local.remotePort);
  const failed = (error: Error) => report(`connection of ${who}: ${error.message}`);
  const gone = new AbortController();
  const leave = () => gone.abort();
  local.once('close', leave).on('error', leave);
  try {
    const remote = await client.connect(target, { signal: gone.signal });
    local.off('close', leave);
    join(local, remote, failed);
  } catch (error) {
    if (!gone.signal.aborted) failed(error as Error);
    local.destroy();
  }
}

/** A server that leaves both directions of a connection their own end. */
async function listen({ host, port }: Listen, accept: (local: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, accept);
  server.listen(port, host);
  await once(server, 'listening');
  server.on('error', error => report(error.message)); // such as EMFILE: later connections may do better
  return server;
}

const interrupted = () =>
  new Promise<void>(resolve => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });

export const networkConnect = command({
  name: 'network-connect',
  summary: 'Forward a local TCP port into a network, until Ctrl-C',
  flags: {
    network,
    ip: { type: 'string', required: true, describe: 'Address inside the network' },
    port: { type: 'number', required: true, describe: 'Its TCP port' },
    listen: { type: 'string', describe: '[address:]port to listen on; default: a free port of 127.0.0.1' },
  },
  example: [
    'network-connect -n shop --ip 10.1.0.2 --port 5432 --listen 5432',
    'a database of the network on this machine',
  ],
  async run({ args, client, output }) {
    const { ip, port } = args;
    const where = parseListen(args.listen ?? '0');
    const stop = interrupted();
    const { id } = await client.network(args.network);
    const locals = new Set<Socket>();
    const server = await listen(where, local => {
      locals.add(local.once('close', () => locals.delete(local)));
      void forward(client, { network: id, ip, port }, local);
    });
    const bound = server.address() as AddressInfo;
    await output.show({
      value: { address: bound.address, port: bound.port },
      lines: [`Waiting connection on ${show(bound.address, bound.port)}`],
      table: { head: ['ADDRESS', 'PORT'], rows: [[bound.address, `${bound.port}`]] },
    });
    await stop;
    server.close();
    for (const local of locals) local.destroy();
  },
});
