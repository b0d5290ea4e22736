import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listenUnix } from '../../listen/unix-socket.js';
import { run } from '../support/command.js';

const options = { mode: 0o660, flag: '--run-dir' };

let directory: string;
let servers: Server[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sand-unix-'));
  servers = [];
});
afterEach(async () => {
  for (const server of servers) if (server.listening) await once(server.close(), 'close');
  rmSync(directory, { recursive: true, force: true });
});

const path = () => join(directory, 'run', 'api.sock');
function newServer(): Server {
  const server = createServer();
  servers.push(server);
  return server;
}

describe('listenUnix()', () => {
  it.each([0o660, 0o600])(
    'gives the socket the mode %o from its first moment, whatever the mask',
    async mode => {
      const server = newServer();
      const listen = server.listen.bind(server) as (path: string) => Server;
      let seen: number | undefined;
      server.listen = ((where: string) => {
        listen(where);
        seen = statSync(where).mode & 0o777;
        return server;
      }) as Server['listen'];
      const before = process.umask(0);
      try {
        await listenUnix(server, path(), { ...options, mode });
        expect([seen, process.umask(0)]).toEqual([mode, 0]);
      } finally {
        process.umask(before);
      }
    },
  );

  it('leaves the socket of a living process alone, and says what would help', async () => {
    await listenUnix(newServer(), path(), options);
    const { ino } = statSync(path());
    await expect(listenUnix(newServer(), path(), options)).rejects.toMatchObject({
      kind: 'conflict',
      message: `${path()} is served by another process; stop it, or give another --run-dir`,
    });
    expect(statSync(path()).ino).toBe(ino);
  });

  it('replaces the socket of a process that was killed, and removes its own at the end', async () => {
    const script = `require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 9))`;
    const stale = join(directory, 'stale.sock');
    expect((await run([process.execPath, '-e', script, stale])).status).toBe(128 + 9);
    expect(existsSync(stale)).toBe(true);
    const server = newServer();
    await listenUnix(server, stale, options);
    await once(server.close(), 'close');
    expect(existsSync(stale)).toBe(false);
  });

  it('refuses a path that is too long for the kernel', async () => {
    const long = join(directory, 'x'.repeat(108));
    await expect(listenUnix(newServer(), long, options)).rejects.toMatchObject({
      kind: 'invalid',
      message: expect.stringMatching(/too many for a unix socket; give another --run-dir$/),
    });
  });
});
