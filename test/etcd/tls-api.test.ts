import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiServer } from '../../api/server.js';
import { TlsFiles } from '../../listen/tls-files.js';
import { Kernel } from '../../overlay/kernel.js';
import { CertificateAuthority, type Pem, writePem } from '../support/certificate-authority.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { LogBook } from '../support/log-book.js';
import { NetworkHost } from '../support/network-host.js';
import { type TlsCall, tlsAgent, tlsCall } from '../support/tls-call.js';
import { unixRequest } from '../support/unix-http.js';
import { until } from '../support/until.js';

const NAMES = { ca: 'HTTP_TLS_CA', cert: 'HTTP_TLS_CERT', key: 'HTTP_TLS_KEY' };
/** Before the request in TLS 1.2, at the first answer in 1.3. */
const REFUSED = /hang up|ECONNRESET|alert|disconnected before secure/;
const VERSION = { version: 'v1' };

let etcd: EtcdCluster;
let kernel: Kernel;
let host: NetworkHost;
let authority: CertificateAuthority;
let foreign: CertificateAuthority;
let client: Pem;
beforeAll(async () => {
  etcd = await startEtcd();
  kernel = await Kernel.start({ log: new LogBook() });
  host = await NetworkHost.open({ hosts: etcd.hosts, prefix: '/tls', name: 'ant', kernel });
  authority = await CertificateAuthority.create();
  foreign = await CertificateAuthority.create();
  client = await authority.issue({ name: 'operator' });
});
afterAll(async () => {
  await host[Symbol.asyncDispose]();
  await kernel[Symbol.asyncDispose]();
  await etcd.stop();
});

let directory: string;
let files: TlsFiles;
let log: LogBook;
let api: ApiServer;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sand-tls-api-'));
  files = TlsFiles.open(await writeServer('ant'), NAMES);
  log = new LogBook();
  api = await listen({ tls: files });
});
afterEach(async () => {
  await api[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

const writeServer = async (name: string, by = authority) =>
  writePem(directory, 'api', { ca: by.ca, ...(await by.issue({ name })) });
const socketPath = () => join(directory, 'api.sock');

async function listen(options: { tls?: TlsFiles; port?: number; listen?: string }): Promise<ApiServer> {
  const { tls, port = 0, listen: address } = options;
  const rest = { listen: address, socketPath: socketPath(), tls, version: 'v1', log };
  return ApiServer.listen(host.engine, { port, ...rest });
}

/** The port, once it is served. */
const portOf = (server: ApiServer) => until(() => server.listening[0]?.port, { what: 'the port is served' });
/** With a good client's certificate, unless told otherwise. */
const call = async (options: Partial<TlsCall> = {}) =>
  tlsCall({ port: await portOf(api), ca: authority.ca, ...client, ...options });
const refusals = () => log.lines.filter(({ text }) => text === 'TLS client refused');

describe('the API with TLS', () => {
  it('serves a client with a certificate of its CA, on IPv4 and IPv6, by TLS 1.2 and 1.3', async () => {
    expect(await call()).toMatchObject({ status: 200, body: VERSION, server: 'ant' });
    expect((await call({ host: '::1' })).body).toEqual(VERSION);
    expect((await call({ maxVersion: 'TLSv1.2' })).body).toEqual(VERSION);
    expect(refusals()).toEqual([]);
  });

  it.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'by %s refuses a client without a certificate',
    async maxVersion => {
      const bare = { port: await portOf(api), ca: authority.ca, maxVersion };
      await expect(tlsCall(bare)).rejects.toThrow(REFUSED);
      await until(() => refusals().length === 1, { what: 'the refusal is logged' });
    },
  );

  it.each(['TLSv1.2', 'TLSv1.3'] as const)("by %s refuses a foreign CA's certificate", async maxVersion => {
    const stranger = await foreign.issue({ name: 'operator' });
    await expect(call({ ...stranger, maxVersion })).rejects.toThrow(REFUSED);
    await until(() => refusals().length === 1);
    expect(refusals()[0]?.facts).toMatchObject({ reason: expect.stringMatching(/SIGNATURE|ISSUER/) });
  });

  it.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'by %s refuses a certificate that has expired',
    async maxVersion => {
      const old = await authority.issue({ name: 'operator', livesMs: -60_000 });
      await expect(call({ ...old, maxVersion })).rejects.toThrow(REFUSED);
      await until(() => refusals().length === 1);
      expect(refusals()[0]?.facts).toMatchObject({ door: 'api', reason: 'CERT_HAS_EXPIRED' });
    },
  );

  it('is known to its clients: they refuse a server of another CA and one of another name', async () => {
    await expect(call({ ca: foreign.ca })).rejects.toMatchObject({
      code: expect.stringMatching(/SIGNATURE/),
    });
    await writePem(directory, 'api', {
      ca: authority.ca,
      ...(await authority.issue({ name: 'bee', hosts: ['10.9.9.9'] })),
    });
    files.reload();
    await expect(call()).rejects.toMatchObject({ code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
  });

  it('refuses TLS 1.1', async () => {
    await expect(call({ maxVersion: 'TLSv1.1' })).rejects.toThrow(/alert|unsupported protocol/i);
  });

  it.each([
    ['plain HTTP', 'GET /version HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['noise', Buffer.from(Array.from({ length: 300 }, (_, at) => (at * 37) % 256))],
  ])('ends a connection that speaks %s, and serves the next', async (_what, bytes) => {
    const socket = connect(await portOf(api), '127.0.0.1');
    let answer = '';
    socket.on('data', chunk => {
      answer += chunk.toString('latin1');
    });
    socket.on('error', () => undefined);
    socket.write(bytes);
    await once(socket, 'close');
    expect(answer).not.toContain('HTTP/1.1 200');
    expect((await call()).body).toEqual(VERSION);
    expect(log.texts('warn')).toEqual([]);
  });

  it('does not flood the log', async () => {
    const bare = { port: await portOf(api), ca: authority.ca };
    for (let count = 0; count < 20; count += 1) await tlsCall(bare).catch(() => undefined);
    expect(refusals()).toHaveLength(1);
  });

  it('after a re-read shows the new certificate to new connections, and keeps those that are open', async () => {
    await using agent = { it: tlsAgent(), [Symbol.asyncDispose]: async () => agent.it.destroy() };
    const before = await call({ agent: agent.it });
    await writeServer('bee');
    files.reload();
    expect(await call()).toMatchObject({ status: 200, server: 'bee' });
    expect(await call({ agent: agent.it })).toEqual(before);
    expect(before.server).toBe('ant');
  });

  it('after a re-read of another CA takes its clients, and those of the old one no more', async () => {
    await writeServer('bee', foreign);
    files.reload();
    const stranger = await foreign.issue({ name: 'operator' });
    expect((await call({ ca: foreign.ca, ...stranger })).body).toEqual(VERSION);
    await expect(call({ ca: foreign.ca })).rejects.toThrow(REFUSED);
  });

  it('keeps what it has when the new files are broken', async () => {
    await writeFile(join(directory, 'api-cert.pem'), 'hello');
    expect(() => files.reload()).toThrow(/^HTTP_TLS_CERT/);
    expect((await call()).server).toBe('ant');
  });
});

describe('the API without TLS', () => {
  const plain = async (server: ApiServer, address: string) => {
    const port = server.listening.find(bound => bound.address === address)?.port;
    return (await fetch(`http://${address.includes(':') ? `[${address}]` : address}:${port}/version`)).json();
  };
  const addresses = (server: ApiServer) => server.listening.map(({ address }) => address).sort();

  beforeEach(() => api[Symbol.asyncDispose]());

  it('listens on both loopback addresses and nowhere else', async () => {
    api = await listen({});
    await until(() => api.listening.length === 2, { what: 'both loopback addresses are served' });
    expect(addresses(api)).toEqual(['127.0.0.1', '::1']);
    expect(await plain(api, '127.0.0.1')).toEqual(VERSION);
    expect(await plain(api, '::1')).toEqual(VERSION);
  });

  it('listens where it is told to', async () => {
    api = await listen({ listen: '127.0.0.7' });
    await portOf(api);
    expect(addresses(api)).toEqual(['127.0.0.7']);
    expect(await plain(api, '127.0.0.7')).toEqual(VERSION);
  });

  it('serves its unix socket while the port is taken, and the port once it is free', async () => {
    const squatter = createServer().listen(0, '127.0.0.1');
    await once(squatter, 'listening');
    const { port } = squatter.address() as { port: number };
    api = await listen({ port, listen: '127.0.0.1' });
    await until(() => log.texts('error').includes('TCP port not served, trying again'));
    expect((await unixRequest({ socket: socketPath(), path: '/version' })).status).toBe(200);
    expect(api.listening).toEqual([]);
    squatter.close();
    await until(() => api.listening.length === 1, { timeoutMs: 10_000, what: 'the port is served' });
    expect(await plain(api, '127.0.0.1')).toEqual(VERSION);
  });
});
