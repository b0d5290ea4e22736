/** A tunnel between two connections of the loopback. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { openTunnel } from '../../api/tunnel.js';
import { digestOfPattern, pattern } from '../support/pattern.js';
import { digestBehindHead, OK_HEAD } from '../support/raw-client.js';
import { until } from '../support/until.js';

const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});

/** Both ends of a connection. */
async function pair(): Promise<{ near: Socket; far: Socket }> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const far = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  const [near] = (await once(server, 'connection')) as [Socket];
  server.close();
  for (const socket of [near, far]) socket.on('error', () => undefined);
  sockets.push(near, far);
  return { near, far };
}

async function tunnel(halfClosedIdleMs?: number) {
  const [left, right] = [await pair(), await pair()];
  openTunnel(left.near, right.near, halfClosedIdleMs);
  return { client: left.far, target: right.far, inside: [left.near, right.near] as const };
}

/** Who has read the end learns only by writing that nobody reads. */
async function untilRefused(socket: Socket): Promise<void> {
  await until(() => {
    if (!socket.destroyed) socket.write('x');
    return socket.destroyed;
  });
}

async function write(socket: Socket, bytes: number): Promise<void> {
  for (const chunk of pattern(bytes)) if (!socket.write(chunk)) await once(socket, 'drain');
}

it('holds little for a client that does not read, and gives it all when it does, though the target has gone', async () => {
  const bytes = 64 * 1024 * 1024;
  const { client, target, inside } = await tunnel();
  const written = write(target, bytes).then(() => target.end());
  let before = -1;
  // The kernel's buffers are full, and nothing moves.
  await until(
    () => {
      const same = inside[1].bytesRead === before && before > 0;
      before = inside[1].bytesRead;
      return same;
    },
    { everyMs: 200 },
  );
  const held = inside[0].writableLength + inside[1].readableLength;
  expect([before < bytes, held < 1024 * 1024]).toEqual([true, true]);
  const digest = digestBehindHead(client);
  await written;
  client.end();
  expect(await digest).toEqual(digestOfPattern(bytes));
});

it('ends when one side has, and the other neither ends nor says anything for long', async () => {
  const { client, target, inside } = await tunnel(100);
  client.resume();
  target.resume().end();
  await once(client, 'end');
  await until(() => inside.every(({ destroyed }) => destroyed));
  await untilRefused(client);
});

it('lives as long as both sides do, and as long as one speaks after the other has ended', async () => {
  const { client, target, inside } = await tunnel(300);
  target.resume();
  const digest = digestBehindHead(client.resume());
  client.end();
  let sent = 0;
  const speaking = setInterval(() => {
    target.write('x');
    sent += 1;
  }, 50);
  await until(() => sent === 20);
  clearInterval(speaking);
  expect(inside.map(({ destroyed }) => destroyed)).toEqual([false, false]);
  target.end();
  expect((await digest).bytes).toBe(sent);
  await until(() => inside.every(({ destroyed }) => destroyed));
});

it.each(['client', 'target'] as const)('carries a reset of the %s to the other', async side => {
  const ends = await tunnel();
  const [one, other] = side === 'client' ? [ends.client, ends.target] : [ends.target, ends.client];
  await once(ends.client, 'data');
  const failed = once(other.resume(), 'error');
  one.resetAndDestroy();
  const error = await failed.catch(thrown => [thrown]);
  expect(error).toMatchObject([{ code: 'ECONNRESET' }]);
  await until(() => ends.inside.every(({ destroyed }) => destroyed));
});

it('passes on what the target said before it closed, to a client whose words it did not read', async () => {
  const { client, target } = await tunnel();
  client.write('nobody reads this');
  const text: string[] = [];
  client.on('data', chunk => text.push(String(chunk)));
  target.write('the answer', () => target.end(() => target.destroy()));
  await once(client, 'end');
  expect(text.join('')).toBe(`${OK_HEAD}the answer`);
  await untilRefused(client);
});
