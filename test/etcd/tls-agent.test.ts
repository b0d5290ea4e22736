import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CertificateAuthority, type Pem, writePem } from '../support/certificate-authority.js';
import { run } from '../support/command.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { AGENT_MAIN, LocalAgent } from '../support/local-agent.js';
import { type TlsCall, tlsAgent, tlsCall } from '../support/tls-call.js';
import { unixRequest } from '../support/unix-http.js';
import { until } from '../support/until.js';

type Paths = Awaited<ReturnType<typeof writePem>>;

let directory: string;
let authority: CertificateAuthority;
let foreign: CertificateAuthority;
let operator: Pem;
let etcd: EtcdCluster;

const write = async (stem: string, name: string, by = authority) =>
  writePem(directory, stem, { ca: by.ca, ...(await by.issue({ name })) });
const httpEnv = ({ ca, cert, key }: Paths) => ({ HTTP_TLS_CA: ca, HTTP_TLS_CERT: cert, HTTP_TLS_KEY: key });
const etcdEnv = ({ ca, cert, key }: Paths) => ({
  ETCD_HOSTS: etcd.hosts.join(),
  ETCD_CACERT: ca,
  ETCD_TLS_CERT: cert,
  ETCD_TLS_KEY: key,
});

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sand-tls-agent-'));
  authority = await CertificateAuthority.create();
  foreign = await CertificateAuthority.create();
  operator = await authority.issue({ name: 'operator' });
  etcd = await startEtcd({ tls: await write('server', 'etcd') });
});
afterAll(async () => {
  await etcd.stop();
  rmSync(directory, { recursive: true, force: true });
});

describe('an agent with TLS on both sides', () => {
  let agent: LocalAgent;
  let agents = 0;
  beforeEach(async () => {
    const env = { ...etcdEnv(await write('etcd', 'agent')), ...httpEnv(await write('http', 'ant')) };
    // Of its own name: the one before may not have had the time to give it up.
    const own = { PEER_HOSTNAME: `ant-${++agents}`, ENABLE_DOCKER_PLUGIN: 'true' };
    agent = await LocalAgent.start({ ...env, ...own });
  });
  afterEach(() => agent?.[Symbol.asyncDispose]());

  const call = (options: Partial<TlsCall> = {}) =>
    tlsCall({ port: agent.apiPort, ca: authority.ca, ...operator, ...options });
  const hangUp = async (text: string) => {
    const before = agent.lines(text).length;
    agent.signal('SIGHUP');
    await until(() => agent.lines(text).length > before, { what: `the log says: ${text}` });
  };

  it('after SIGHUP shows new certificates on every port, keeps open connections, and stays the same process', async () => {
    await using kept = { it: tlsAgent(), [Symbol.asyncDispose]: async () => kept.it.destroy() };
    const before = await call({ agent: kept.it, path: '/networks' });
    expect(before).toMatchObject({ status: 200, server: 'ant', body: { networks: [] } });
    const { pid } = agent;
    await write('http', 'bee');
    await write('etcd', 'agent two');
    await hangUp('TLS files read again');

    expect(await call({ path: '/networks' })).toMatchObject({ status: 200, server: 'bee' });
    const activate = { port: agent.pluginPort, path: '/Plugin.Activate', body: '' };
    expect(await call(activate)).toMatchObject({ server: 'bee', body: { Implements: expect.any(Array) } });
    expect(await call({ agent: kept.it, path: '/networks' })).toEqual(before);
    expect([agent.pid, agent.running]).toEqual([pid, true]);
    const said = agent.lines('TLS files read again');
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(/INFO .*CN=bee.*CN=agent two/);
  });

  it('after SIGHUP talks to an etcd whose CA has changed', async () => {
    const created = await call({ path: '/networks', body: '{"name":"before"}' });
    await write('server', 'etcd', foreign);
    try {
      await etcd.restart();
      await write('etcd', 'agent', foreign);
      await hangUp('TLS files read again');
      const after = await call({ path: '/networks', body: '{"name":"after"}' });
      expect(after.status).toBe(201);
      const list = (await call({ path: '/networks' })).body as { networks: { name: string }[] };
      expect(list.networks.map(({ name }) => name).sort()).toEqual(['after', 'before']);
      expect(created.body).toMatchObject({ network: { name: 'before' } });
    } finally {
      await write('server', 'etcd');
      await etcd.restart();
    }
  }, 60_000);

  it('keeps what it has when the new files are broken, and says which file', async () => {
    writeFileSync(join(directory, 'http-key.pem'), 'hello');
    await hangUp('TLS files not taken, the old ones stay');
    const said = agent.lines('TLS files not taken');
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(/ERROR .*HTTP_TLS_KEY: .*http-key\.pem holds no private key in PEM/);
    expect(await call()).toMatchObject({ status: 200, server: 'ant' });
    // The other side is taken all the same.
    await until(() => agent.lines('TLS files read again').length === 1);
  });

  it('serves Docker on its TCP port, to clients with a certificate alone', async () => {
    const plugin = { port: agent.pluginPort, path: '/IpamDriver.RequestPool' };
    const wish = { AddressSpace: 'sandlocal', Pool: '10.5.0.0/24', SubPool: '', Options: {}, V6: false };
    const answer = await call({ ...plugin, body: JSON.stringify(wish) });
    expect(answer).toMatchObject({ status: 200, body: { Pool: '10.5.0.0/24' } });
    const stranger = await foreign.issue({ name: 'docker' });
    await expect(call({ ...plugin, ...stranger, body: '{}' })).rejects.toThrow();
    const over = await unixRequest({
      socket: join(agent.directory, 'plugin.sock'),
      path: '/Plugin.Activate',
      method: 'POST',
    });
    expect(over.status).toBe(200);
  });

  it('has no key or password in its log', async () => {
    await write('http', 'bee');
    await hangUp('TLS files read again');
    writeFileSync(join(directory, 'etcd-key.pem'), (await foreign.issue({ name: 'x' })).key);
    await hangUp('TLS files not taken');
    expect(agent.log).not.toMatch(/PRIVATE KEY|[A-Za-z0-9+/]{60}/);
  });

  it('serves the API socket to its group, and removes it at its end', async () => {
    const socket = join(agent.directory, 'run', 'api.sock');
    expect((statSync(socket).mode & 0o777).toString(8)).toBe('660');
    agent.signal('SIGTERM');
    await until(() => !agent.running);
    expect(existsSync(socket)).toBe(false);
  });
});

it('an agent takes an etcd whose CA Node knows, with a client certificate and without ETCD_CACERT', async () => {
  const paths = await write('etcd', 'agent');
  const { ETCD_CACERT, ...env } = etcdEnv(paths);
  // A name of its own: the agent before it could not say goodbye to an etcd with other certificates.
  const own = { PEER_HOSTNAME: 'bee', NODE_EXTRA_CA_CERTS: ETCD_CACERT };
  await using agent = await LocalAgent.start({ ...env, ...own });
  const socket = join(agent.directory, 'run', 'api.sock');
  expect((await unixRequest({ socket, path: '/networks' })).status).toBe(200);
  expect(agent.log).not.toContain('WARN');
});

it('an agent goes on after SIGHUP when there is nothing to read again', async () => {
  await using agent = await LocalAgent.start({ ETCD_HOSTS: 'http://127.0.0.1:1' });
  agent.signal('SIGHUP');
  await until(() => agent.lines('no TLS files to read again').length === 1);
  expect(agent.running).toBe(true);
});

describe('an agent with broken TLS files', () => {
  /** One line on standard error and exit status 2, before anything is made. */
  async function refusal(env: Readonly<Record<string, string>>): Promise<string> {
    const own = {
      SAND_STATE_DIR: join(directory, 'none', 'state'),
      SAND_RUN_DIR: join(directory, 'none', 'run'),
      SAND_PLUGIN_SOCKET: join(directory, 'none', 'plugin.sock'),
      ETCD_HOSTS: etcd.hosts.join(),
      PEER_IP: '127.0.0.1',
    };
    const { status, stdout, stderr } = await run([process.execPath, AGENT_MAIN], { env: { ...own, ...env } });
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^sand-agent: [^\n]+\n$/);
    expect(existsSync(join(directory, 'none'))).toBe(false);
    return stderr;
  }

  it.each([
    ['HTTP_TLS_CERT', /HTTP_TLS_CERT: .*no\.pem holds no certificate in PEM$/m],
    ['HTTP_TLS_KEY', /HTTP_TLS_KEY: .*no\.pem holds no private key in PEM$/m],
    ['HTTP_TLS_CA', /HTTP_TLS_CA: .*no\.pem holds no certificate in PEM$/m],
    ['ETCD_CACERT', /ETCD_CACERT: .*no\.pem holds no certificate in PEM$/m],
    ['ETCD_TLS_CERT', /ETCD_TLS_CERT: .*no\.pem holds no certificate in PEM$/m],
    ['ETCD_TLS_KEY', /ETCD_TLS_KEY: .*no\.pem holds no private key in PEM$/m],
  ])('refuses a broken %s', async (name, text) => {
    const broken = join(directory, 'no.pem');
    writeFileSync(broken, 'hello');
    const env = { ...httpEnv(await write('start', 'ant')), ...etcdEnv(await write('start', 'ant')) };
    expect(await refusal({ ...env, [name]: broken })).toMatch(text);
  });

  it('refuses a key of another certificate', async () => {
    const paths = await write('start', 'ant');
    const { key } = await write('other', 'bee');
    expect(await refusal(httpEnv({ ...paths, key }))).toContain(
      'does not belong to the certificate beside it',
    );
  });

  it('refuses an API socket that a living process serves, before it listens', async () => {
    const path = join(directory, 'api.sock');
    const other = createServer().listen(path);
    try {
      expect(await refusal({ SAND_RUN_DIR: directory })).toContain(
        `${path} is served by another process; stop it, or give another --run-dir`,
      );
    } finally {
      other.close();
    }
  });
});
