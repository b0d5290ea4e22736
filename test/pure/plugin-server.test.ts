import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PluginServer } from '../../plugin/server.js';
import { LogBook } from '../support/log-book.js';
import { unixRequest } from '../support/unix-http.js';

it('lets dockerd’s connections rest for ever: it repeats a call without its body when one ends', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'sand-plugin-'));
  const path = join(directory, 'sand.sock');
  try {
    await using _ = await PluginServer.listen({
      path,
      methods: Promise.resolve({}),
      log: Promise.resolve(new LogBook()),
    });
    const { status, headers } = await unixRequest({ socket: path, method: 'POST', path: '/Plugin.Activate' });
    // Node tells after how many seconds it ends a connection, if it does.
    expect([status, headers.connection, headers['keep-alive']]).toEqual([200, 'keep-alive', undefined]);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
