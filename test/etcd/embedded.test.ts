import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Etcd3 } from 'etcd3';
import { ConflictError, SandError, UnavailableError } from '../../model/errors.js';
import { type IpAddress, parseIpAddress } from '../../model/scalars.js';
import { StoreClient } from '../../store/client.js';
import { EmbeddedEtcd } from '../../store/embedded.js';
import { type EtcdAddress, parseEtcdHosts } from '../../store/join-token.js';
import { StateLock } from '../../store/state-lock.js';
import { keepSmall } from '../../store/upkeep.js';
import { ok, run } from '../support/command.js';
import { protect } from '../support/guardian.js';
import { LogBook } from '../support/log-book.js';
import { until } from '../support/until.js';

let stateDir: string;
let log: LogBook;
let protection: Awaited<ReturnType<typeof protect>>;
let resources: AsyncDisposable[];

beforeEach(async () => {
  stateDir = await mkdtemp('/dev/shm/sand-embedded-');
  protection = await protect({ directories: [stateDir] });
  log = new LogBook();
  resources = [];
});
afterEach(async () => {
  for (const resource of resources.reverse()) await resource[Symbol.asyncDispose]();
  expect(await etcdPids()).toEqual([]);
  await rm(stateDir, { recursive: true });
  protection.release();
});

const using = <T extends AsyncDisposable>(resource: T): T => {
  resources.push(resource);
  return resource;
};
const start = async (more: { listen?: IpAddress; program?: string; quotaBytes?: number } = {}) =>
  using(await EmbeddedEtcd.start({ stateDir, log, ...more }));
const clientOf = ({ hosts, tls }: EtcdAddress) => using(new StoreClient({ hosts, tls }));

/** The processes that work in the state directory, as the kernel sees them. */
async function etcdPids(): Promise<number[]> {
  const pids = (await readdir('/proc')).filter(name => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async pid => (await readlink(`/proc/${pid}/cwd`).catch(() => '')) === join(stateDir, 'etcd')),
  );
  return pids.filter((_, index) => found[index]).map(Number);
}

const put = (client: StoreClient, key: string, value: string | Buffer) =>
  client.txn({ success: [{ request_put: { key: Buffer.from(key), value: Buffer.from(value) } }] });
const get = async (client: StoreClient, key: string) =>
  (await client.range({ key: Buffer.from(key) })).kvs[0]?.value.toString();

const failureOf = async (work: Promise<unknown>): Promise<SandError> => {
  const error: unknown = await work.then(
    () => undefined,
    reason => reason,
  );
  if (error instanceof SandError) return error;
  throw new Error('No SandError', { cause: error });
};

/** A process that runs `body` with `store/` at hand, says `ready` and then waits to be killed. */
async function runParent(body: string): Promise<ChildProcess> {
  const url = (file: string) => new URL(`../../store/${file}.js`, import.meta.url);
  const script = `
    const { EmbeddedEtcd } = await import('${url('embedded')}');
    const { StateLock } = await import('${url('state-lock')}');
    const log = { debug() {}, info() {}, warn() {}, error() {} };
    const stateDir = ${JSON.stringify(stateDir)};
    ${body}
    setInterval(() => {}, 1_000);
    console.log('ready');`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  using({ [Symbol.asyncDispose]: () => kill(child) });
  await Promise.race([
    once(child.stdout, 'data'),
    once(child, 'exit').then(() => Promise.reject(new Error('The parent ended'))),
  ]);
  return child;
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}

describe('EmbeddedEtcd', () => {
  it('serves etcd3 and etcdctl on a unix socket alone, and keeps its data over a restart', async () => {
    expect(EmbeddedEtcd.hasData(stateDir)).toBe(false);
    const first = await start();
    expect(EmbeddedEtcd.hasData(stateDir)).toBe(true);
    expect(first.joinCommand).toBeUndefined();
    await put(clientOf(first.address), 'a', '1');
    const [host = ''] = first.address.hosts;
    expect(await ok(['etcdctl', '--endpoints', host.replace('unix:', 'unix://'), 'get', 'a'])).toBe('a\n1\n');
    expect((await stat(join(stateDir, 'etcd'))).mode & 0o777).toBe(0o700);
    const [pid] = await etcdPids();
    expect(await ok(['ss', '-Hltnp'])).not.toContain(`pid=${pid},`);
    await first[Symbol.asyncDispose]();
    expect(await etcdPids()).toEqual([]);
    const second = await start();
    expect(await get(clientOf(second.address), 'a')).toBe('1');
  });

  it('starts whatever ETCD_… the agent was given', async () => {
    const names = ['ETCD_NAME', 'ETCD_DATA_DIR', 'ETCD_LISTEN_CLIENT_URLS'];
    for (const name of names) process.env[name] = 'http://elsewhere:1';
    try {
      expect((await start()).address.hosts).toHaveLength(1);
    } finally {
      for (const name of names) delete process.env[name];
    }
  });

  it('brings a killed child back with its data, and warns once', async () => {
    const etcd = await start();
    const client = clientOf(etcd.address);
    await put(client, 'a', '1');
    const [before = 0] = await etcdPids();
    process.kill(before, 'SIGKILL');
    await until(() => get(client, 'a').then(value => value === '1'), { timeoutMs: 15_000 });
    expect(await etcdPids()).not.toContain(before);
    expect(log.texts('warn')).toEqual(['embedded etcd ended, starting it again']);
  });

  it('ends a child that does not stop when asked', async () => {
    const etcd = await start();
    const [pid = 0] = await etcdPids();
    process.kill(pid, 'SIGSTOP');
    await etcd[Symbol.asyncDispose]();
    expect(await etcdPids()).toEqual([]);
  });

  it('dies with an agent that gets SIGKILL, and the next agent starts over what that left', async () => {
    const parent = await runParent('globalThis.etcd = await EmbeddedEtcd.start({ stateDir, log });');
    expect(await etcdPids()).toHaveLength(1);
    await kill(parent);
    await until(async () => (await etcdPids()).length === 0, { what: 'etcd is gone' });
    expect(await readdir(join(stateDir, 'etcd'))).toContain('client.sock:0');
    const etcd = await start();
    await put(clientOf(etcd.address), 'a', '1');
  });

  it('leaves nothing behind when the agent is killed in the very moment of the start', async () => {
    const parent = runParent(
      'void EmbeddedEtcd.start({ stateDir, log }); process.kill(process.pid, "SIGKILL");',
    );
    await expect(parent).rejects.toThrow('The parent ended');
    await until(async () => (await etcdPids()).length === 0, { what: 'etcd is gone' });
  });

  it('says so when the program is missing', async () => {
    const error = await failureOf(start({ program: 'no-such-etcd' }));
    expect(error).toBeInstanceOf(UnavailableError);
    expect(error.message).toContain('no-such-etcd');
    expect(error.facts).toMatchObject({ program: 'no-such-etcd' });
  });

  it('says what it printed when it does not come up', async () => {
    const program = join(stateDir, 'broken');
    await writeFile(program, '#!/bin/sh\necho the disk is full >&2\nexit 1\n', { mode: 0o700 });
    const error = await failureOf(start({ program }));
    expect(error).toBeInstanceOf(UnavailableError);
    expect(error.message).toContain('the disk is full');
  });
});

describe('EmbeddedEtcd with listen', () => {
  /** A loopback address of its own: the port is fixed. */
  const listen = parseIpAddress(`127.${77 + (process.pid % 100)}.${process.pid % 251}.9`);
  const tokenOf = ({ joinCommand = '' }: EmbeddedEtcd) => {
    const [, token = ''] = /^ETCD_HOSTS=(\S+) sand-agent$/.exec(joinCommand) ?? [];
    return parseEtcdHosts(token);
  };

  it('serves whoever has the join command, also after a restart', async () => {
    const first = await start({ listen });
    const join = tokenOf(first);
    expect(join.hosts).toEqual([`https://${listen}:2379`]);
    await put(clientOf(join), 'a', '1');
    expect(await get(clientOf(first.address), 'a')).toBe('1');
    await first[Symbol.asyncDispose]();
    const second = await start({ listen });
    expect(second.joinCommand).toBe(first.joinCommand);
    expect(await get(clientOf(join), 'a')).toBe('1');
  });

  it('refuses clients without a certificate, and without TLS', async () => {
    const etcd = await start({ listen });
    const { hosts, tls } = tokenOf(etcd);
    const withoutCertificate = new StoreClient({ hosts, tls: { ca: tls?.ca ?? '' } });
    expect(await failureOf(get(using(withoutCertificate), 'a'))).toBeInstanceOf(UnavailableError);
    for (const scheme of ['http', 'https']) {
      const options = ['--dial-timeout=1s', '--command-timeout=1s', '--insecure-skip-tls-verify'];
      const { status } = await run([
        'etcdctl',
        `--endpoints=${scheme}://${listen}:2379`,
        ...options,
        'get',
        'a',
      ]);
      expect(status).not.toBe(0);
    }
    expect(await get(clientOf(tokenOf(etcd)), 'a')).toBeUndefined();
  });
});

describe('keepSmall()', () => {
  const sizeOf = async () => (await stat(join(stateDir, 'etcd/data/member/snap/db'))).size;

  it('shrinks a database whose content is history, and lifts the alarm of a full one', async () => {
    const etcd = await start({ quotaBytes: 32 * 1024 ** 2 });
    const client = clientOf(etcd.address);
    const value = Buffer.alloc(20 * 1024); // 1,000 revisions of it, which are kept, leave room below the quota
    const fill = async () => {
      for (let i = 0; i < 200; i += 1)
        await Promise.all(Array.from({ length: 16 }, () => put(client, 'large', value)));
    };
    expect((await failureOf(fill())).message).toContain('database space exceeded');
    const before = await sizeOf();
    expect(await keepSmall(etcd.address, log)).toBe(true);
    expect(await sizeOf()).toBeLessThan(before);
    await put(client, 'after', '1');
    expect(await get(client, 'large')).toHaveLength(value.length);
  });

  it('leaves the alarm of a corrupt database, and says so', async () => {
    const etcd = await start();
    const [host = ''] = etcd.address.hosts;
    const client = new Etcd3({ hosts: host });
    using({ [Symbol.asyncDispose]: async () => client.close() });
    const { header } = await client.maintenance.status();
    await client.maintenance.alarm({ action: 'Activate', memberID: header.member_id, alarm: 'Corrupt' });
    expect(await keepSmall(etcd.address, log)).toBe(false);
    expect((await client.maintenance.alarm({ action: 'Get' })).alarms).toHaveLength(1);
    expect(log.texts('error')).toEqual([expect.stringContaining('corrupt')]);
  });

  it('leaves a small database alone', async () => {
    const etcd = await start();
    expect(await keepSmall(etcd.address, log)).toBe(false);
    expect(log.lines).toEqual([]);
  });
});

describe('StateLock', () => {
  it('take() refuses a second agent and names the process that holds the directory', () => {
    using_(StateLock.take(stateDir), () => {
      const again = () => StateLock.take(stateDir);
      expect(again).toThrow(ConflictError);
      expect(again).toThrow(`${process.pid}`);
    });
    StateLock.take(stateDir)[Symbol.dispose]();
  });

  it('take() takes over at once from a process that was killed', async () => {
    const parent = await runParent('StateLock.take(stateDir);');
    expect(() => StateLock.take(stateDir)).toThrow(`${parent.pid}`);
    await kill(parent);
    StateLock.take(stateDir)[Symbol.dispose]();
    expect(await readdir(stateDir)).toEqual([]);
  });

  it('take() lets one of eight racing processes take over from a dead one', async () => {
    const body = `
      process.stdin.once('data', () => {
        try { StateLock.take(stateDir); console.log('held'); } catch (error) { console.log(error.name); }
      });`;
    for (let round = 0; round < 3; round += 1) {
      await kill(await runParent('StateLock.take(stateDir);'));
      const racers = await Promise.all(Array.from({ length: 8 }, () => runParent(body)));
      const answers = racers.map(async ({ stdout, stdin }) => {
        const answer = once(stdout as NodeJS.ReadableStream, 'data');
        stdin?.write('go');
        return `${(await answer)[0]}`.trim();
      });
      const expected = ['held', ...Array<string>(7).fill('ConflictError')];
      expect((await Promise.all(answers)).sort()).toEqual(expected.sort());
      for (const racer of racers) await kill(racer);
    }
  });

  const using_ = (lock: Disposable, body: () => void) => {
    try {
      body();
    } finally {
      lock[Symbol.dispose]();
    }
  };
});
