import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Journal, type Teardown } from '../../engine/journal.js';
import { ConflictError, NotFoundError, UnavailableError } from '../../model/errors.js';
import { newEndpointId, newNetworkId, parseIpAddress } from '../../model/scalars.js';
import { LogBook } from '../support/log-book.js';

let directory = '';
let path = '';
let log = new LogBook();
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sand-journal-'));
  path = join(directory, 'state/journal');
  log = new LogBook();
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const endpoint = (): Teardown => ({ kind: 'endpoint', endpoint_id: newEndpointId() });
const address = (): Teardown => ({
  kind: 'address',
  network_id: newNetworkId(),
  address: parseIpAddress('10.0.0.2'),
});
const binding = (): Teardown => ({ kind: 'binding', docker_network_id: 'd1' });

/** What another process would read. */
function recalled(): Teardown[] {
  using journal = new Journal(path, log);
  return journal.entries().map(([, what]) => what);
}

describe('Journal', () => {
  it('recalls in another process what was added, in its order', () => {
    const kept = [endpoint(), address(), binding(), endpoint()];
    using journal = new Journal(path, log);
    for (const what of kept) journal.add(what);
    expect(recalled()).toEqual(kept);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('forgets what is done, and is empty when all is', () => {
    const [first, second] = [endpoint(), address()];
    using journal = new Journal(path, log);
    journal.add(first);
    journal.add(second);
    const [[one = ''] = [], [two = ''] = []] = journal.entries();
    journal.done(one);
    expect(recalled()).toEqual([second]);
    expect(readFileSync(path, 'utf8')).not.toBe('');
    journal.done(two);
    expect(readFileSync(path, 'utf8')).toBe('');
    journal.add(first);
    expect(recalled()).toEqual([first]);
  });

  it.each([
    '{"add":"1","what":{"kind":"endp',
    '{"add":"1","what":{"kind":"endpoint","endpoint_id":7}}',
    '\0\0\0',
  ])('ignores a torn or wrong last line (%j), and loses nothing before or behind it', torn => {
    const [before, behind] = [endpoint(), address()];
    {
      using journal = new Journal(path, log);
      journal.add(before);
    }
    appendFileSync(path, torn);
    {
      using journal = new Journal(path, log);
      expect(journal.entries().map(([, what]) => what)).toEqual([before]);
      journal.add(behind);
    }
    expect(recalled()).toEqual([before, behind]);
    expect(log.texts('warn')).toContain('journal line ignored');
  });

  it('says which endpoints are to go', () => {
    using journal = new Journal(path, log);
    const id = newEndpointId();
    expect(journal.removesEndpoint(id)).toBe(false);
    journal.add({ kind: 'endpoint', endpoint_id: id });
    expect(journal.removesEndpoint(id)).toBe(true);
    expect(journal.removesEndpoint(newEndpointId())).toBe(false);
    journal.done(journal.entries()[0]?.[0] ?? '');
    expect(journal.removesEndpoint(id)).toBe(false);
  });

  it('refuses to begin on a path that is no file, with the path', () => {
    writeFileSync(join(directory, 'state'), 'a file where the directory should be');
    expect(() => new Journal(path, log)).toThrow(join(directory, 'state'));
  });
});

describe('orKeep()', () => {
  const unavailable = async () => {
    throw new UnavailableError('etcd is away');
  };

  it.each<[string, () => Promise<unknown>, number]>([
    ['is done', async () => 'done', 0],
    ['finds nothing to do', async () => Promise.reject(new NotFoundError('gone')), 0],
    ['does not reach etcd', unavailable, 1],
  ])('of work that %s keeps the teardown or not', async (_, work, kept) => {
    using journal = new Journal(path, log);
    await journal.orKeep(endpoint(), work);
    expect(journal.entries()).toHaveLength(kept);
    expect(recalled()).toHaveLength(kept);
  });

  it('passes on any other error', async () => {
    using journal = new Journal(path, log);
    const work = async () => Promise.reject(new ConflictError('taken'));
    await expect(journal.orKeep(endpoint(), work)).rejects.toThrow('taken');
    expect(journal.isEmpty).toBe(true);
  });

  it('keeps the same teardown once, and does not even ask an etcd that is known to be away', async () => {
    using journal = new Journal(path, log, () => true);
    const what = endpoint();
    let asked = 0;
    for (let n = 0; n < 3; n++) {
      await journal.orKeep(what, async () => {
        asked += 1;
      });
    }
    expect(asked).toBe(0);
    expect(journal.entries()).toHaveLength(1);
  });
});

describe('replay()', () => {
  it('carries out what was kept in its order, up to the first that fails', async () => {
    using journal = new Journal(path, log);
    const kept = [endpoint(), address(), binding()];
    for (const what of kept) journal.add(what);
    const done: Teardown[] = [];
    const failing = journal.replay(async what => {
      if (done.length === 1) throw new UnavailableError('away again');
      done.push(what);
    });
    await expect(failing).rejects.toThrow('away again');
    expect(done).toEqual(kept.slice(0, 1));
    expect(recalled()).toEqual(kept.slice(1));
    await journal.replay(async what => void done.push(what));
    expect(done).toEqual(kept);
    expect(recalled()).toEqual([]);
  });

  it('fails, instead of keeping it again, when a kept teardown does not reach etcd', async () => {
    using journal = new Journal(path, log, () => true);
    const what = endpoint();
    journal.add(what);
    const replaying = journal.replay(kept =>
      journal.orKeep(kept, async () => Promise.reject(new UnavailableError('away'))),
    );
    await expect(replaying).rejects.toThrow('away');
    expect(recalled()).toEqual([what]);
  });

  it('refuses nobody who asks for the same meanwhile: it stays kept, once', async () => {
    using journal = new Journal(path, log, () => true);
    const what = endpoint();
    journal.add(what);
    const away = async () => Promise.reject(new UnavailableError('away'));
    const replaying = journal.replay(async kept => {
      await journal.orKeep(what, away);
      await journal.orKeep(kept, away);
    });
    await expect(replaying).rejects.toThrow('away');
    expect(recalled()).toEqual([what]);
  });
});
