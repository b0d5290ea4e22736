/** Two agents with one host name: real agents as child processes, and a real etcd. */
import { cp, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { LocalAgent } from '../support/local-agent.js';
import { expirePresence } from '../support/presence.js';
import { unixRequest } from '../support/unix-http.js';
import { until } from '../support/until.js';

let etcd: EtcdCluster;
let directory: string;
let prefix = '';
let tests = 0;
let open: LocalAgent[] = [];

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());
beforeEach(async () => {
  prefix = `/identity-${++tests}`;
  directory = await mkdtemp(join(tmpdir(), 'sand-identity-'));
});
afterEach(async () => {
  for (const agent of open) await agent[Symbol.asyncDispose]();
  open = [];
  await rm(directory, { recursive: true, force: true });
});

async function start(state: string, vtep = '127.0.0.1'): Promise<LocalAgent> {
  const env = { ETCD_HOSTS: etcd.hosts.join(), ETCD_PREFIX: prefix, PEER_IP: vtep };
  const agent = await LocalAgent.start({ ...env, SAND_STATE_DIR: join(directory, state) });
  open.push(agent);
  return agent;
}

async function end(agent: LocalAgent): Promise<void> {
  agent.signal('SIGKILL');
  await until(() => !agent.running, { what: 'the agent has ended' });
}

const api = async (agent: LocalAgent, path: string, body?: object) => {
  const request = body ? ({ method: 'POST', body: JSON.stringify(body) } as const) : {};
  const answer = await unixRequest({ socket: join(agent.directory, 'run/api.sock'), path, ...request });
  return { status: answer.status, body: JSON.parse(answer.text) };
};
const docker = async (agent: LocalAgent, method: string, body: object) => {
  const socket = join(agent.directory, 'plugin.sock');
  const path = `/${method}`;
  const { text } = await unixRequest({ socket, method: 'POST', path, body: JSON.stringify(body) });
  return JSON.parse(text);
};
const nameOf = async (agent: LocalAgent) => (await api(agent, '/status')).body.status.name;
const serves = (agent: LocalAgent, timeoutMs = 5_000) =>
  until(async () => (await api(agent, '/networks')).status === 200, { what: 'the agent serves', timeoutMs });
const refuses = (agent: LocalAgent) =>
  until(async () => (await nameOf(agent)).state === 'refused', { what: 'the agent refuses' });

describe('an agent whose host name another one has', () => {
  it('refuses every call with the reason, changes nothing, and takes over when the other has stopped', async () => {
    const first = await start('one');
    await serves(first);
    const second = await start('two', '127.0.0.2');
    await refuses(second);
    const before = await etcd.entries(prefix);

    const { identity } = (await api(first, '/status')).body.status;
    const { reason } = await nameOf(second);
    expect(reason).toContain('VTEP 127.0.0.1');
    expect(reason).toContain(identity);
    expect(reason).toContain('PEER_HOSTNAME');
    for (const [path, body] of [
      ['/networks'],
      ['/networks', { name: 'shop' }],
      ['/endpoints'],
      ['/hosts'],
    ] as const) {
      expect(await api(second, path, body)).toMatchObject({
        status: 409,
        body: { error: reason, code: 'conflict' },
      });
    }
    for (const method of [
      'NetworkDriver.DeleteEndpoint',
      'NetworkDriver.Leave',
      'IpamDriver.ReleaseAddress',
    ]) {
      expect(await docker(second, method, { NetworkID: 'n', EndpointID: 'e' })).toMatchObject({
        Err: reason,
      });
    }
    expect(await etcd.entries(prefix)).toEqual(before);
    expect(second.lines('this agent does not serve')).toHaveLength(1);
    await serves(first);

    await first[Symbol.asyncDispose]();
    await serves(second);
  });

  it('takes over when the lease of the other has ended, and the other refuses when it wakes up', async () => {
    const first = await start('one');
    await serves(first);
    const second = await start('two', '127.0.0.2');
    await refuses(second);
    first.signal('SIGSTOP');
    await expirePresence(etcd, prefix, 'ant');
    await serves(second);
    first.signal('SIGCONT');
    await refuses(first);
    expect((await nameOf(first)).reason).toContain('VTEP 127.0.0.2');
  });
});

describe('an agent with the identity of one that crashed', () => {
  it('takes over at once', async () => {
    const first = await start('one');
    await serves(first);
    await end(first);
    const second = await start('one');
    await serves(second, 2_000);
    const { mode } = await stat(join(directory, 'one/identity'));
    expect(mode & 0o777).toBe(0o600);
  });

  it('overtakes the one whose state directory it is a copy of', async () => {
    const first = await start('one');
    await serves(first);
    await cp(join(directory, 'one/identity'), join(directory, 'copy/identity'));
    const copy = await start('copy', '127.0.0.2');
    await serves(copy);
    await refuses(first);
    expect((await nameOf(first)).reason).toContain('is a copy of the other');
    expect((await api(first, '/networks')).status).toBe(409);
    expect((await nameOf(copy)).state).toBe('held');
  });
});
