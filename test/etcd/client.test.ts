/** Calls of the client against a real API. */
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as tlsServer } from 'node:https';
import { createServer as tcpServer } from 'node:net';
import { join } from 'node:path';
import { apiApp } from '../../api/app.js';
import type * as client from '../../cli/client.js';
import {
  ConflictError,
  InvalidError,
  NotFoundError,
  SandClient,
  UnavailableError,
} from '../../cli/client.js';
import * as model from '../../model/errors.js';
import { parseIpAddress } from '../../model/scalars.js';
import { ensureCertificates } from '../../store/certificates.js';
import { CliHost, VERSION } from '../support/cli-host.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { LogBook } from '../support/log-book.js';
import { listening, portOf } from '../support/tcp-targets.js';
import { until } from '../support/until.js';

let etcd: EtcdCluster;
let ant: CliHost;
let sand: SandClient;
let tests = 0;

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());

beforeEach(async () => {
  ant = await CliHost.open({ hosts: etcd.hosts, prefix: `/client${++tests}`, name: 'ant' });
  sand = new SandClient({ apiUrl: ant.apiUrl });
});
afterEach(async () => {
  sand[Symbol.dispose]();
  await ant[Symbol.asyncDispose]();
});

const ID = '6ffc3990-b212-47f2-a5d1-2afe7526e548';
const app = () => apiApp(ant.host.engine, VERSION, new LogBook());
const refusalOf = (call: Promise<unknown>) =>
  call.then(
    () => undefined,
    (error: unknown) => error,
  );

describe('SandClient', () => {
  it('makes, finds and removes networks, by name and by id', async () => {
    expect(await sand.networks()).toEqual([]);
    const wish = {
      id: ID,
      name: 'shop',
      ip_range: '10.1.0.0/24',
      gateway: '10.1.0.9',
      mtu: 1400,
      vxlan_vni: 77,
    };
    const made = await sand.createNetwork(wish);
    expect(made).toMatchObject({ ...wish, gateway: '10.1.0.9/24' });
    expect(await sand.networks()).toEqual([made]);
    expect(await sand.network('shop')).toEqual(made);
    expect(await sand.network(ID)).toEqual(made);
    await sand.removeNetwork('shop');
    expect(await sand.networks()).toEqual([]);
    expect(await sand.createNetwork()).toMatchObject({ ip_range: '10.0.0.0/24' });
  });

  it('makes, filters and removes endpoints', async () => {
    const { id } = await sand.createNetwork({ name: 'shop' });
    const other = await sand.createNetwork();
    const one = await sand.createEndpoint({ network: 'shop' });
    expect(one).toMatchObject({
      network_id: id,
      hostname: 'ant',
      active: false,
      target_veth_ip: '10.0.0.2/24',
    });
    const two = await sand.createEndpoint({
      network: other.id.toUpperCase(),
      ipv4_address: '10.0.0.9',
      mac_address: '02:00:00:00:00:09',
    });
    expect(two).toMatchObject({ target_veth_ip: '10.0.0.9/24', target_veth_mac: '02:00:00:00:00:09' });
    const ids = async (filter?: client.EndpointFilter) =>
      (await sand.endpoints(filter)).map(({ id }) => id).sort();
    expect(await ids()).toEqual([one.id, two.id].sort());
    expect(await ids({ network: 'shop' })).toEqual([one.id]);
    expect(await ids({ network: other.id, hostname: 'ant' })).toEqual([two.id]);
    expect(await ids({ hostname: 'bee' })).toEqual([]);
    await sand.removeEndpoint(one.id);
    expect(await refusalOf(sand.removeNetwork(other.id))).toBeInstanceOf(ConflictError);
    await sand.removeNetwork(other.id, { force: true });
    expect(await ids()).toEqual([]);
  });

  it('asks for a namespace to be joined', async () => {
    await sand.createNetwork({ name: 'shop' });
    const error = await refusalOf(sand.createEndpoint({ network: 'shop', netns: '/etc/passwd' }));
    expect(error).toMatchObject({
      name: 'InvalidError',
      details: { field: expect.stringContaining('ns_handle_path') },
    });
  });

  it('tells version, status and the description of the API', async () => {
    expect(await sand.version()).toBe(VERSION);
    expect(await sand.status()).toMatchObject({
      hostname: 'ant',
      version: VERSION,
      etcd: { answering: true },
    });
    expect(await sand.openapi()).toMatchObject({ openapi: '3.1.0' });
  });

  it.each(['', 'localhost:9999', 'ftp://a', 'unix://run/sand.sock', 'unix:'])(
    'refuses the API URL %j',
    apiUrl => {
      expect(() => new SandClient({ apiUrl })).toThrow(InvalidError);
    },
  );
});

describe('errors', () => {
  it('are the kinds of SAND with the status, the code and the details of the answer', async () => {
    await sand.createNetwork({ id: ID });
    const conflict = await refusalOf(sand.createNetwork({ id: ID }));
    expect(conflict).toBeInstanceOf(ConflictError);
    expect(conflict).toBeInstanceOf(model.ConflictError);
    expect(conflict).toMatchObject({ name: 'ConflictError', status: 409, code: 'conflict' });
    expect(await refusalOf(sand.createNetwork({ mtu: 1 }))).toMatchObject({
      name: 'InvalidError',
      status: 400,
      code: 'invalid',
      details: { field: 'mtu' },
    });
    const missing = await refusalOf(sand.network('nobody'));
    expect(missing).toBeInstanceOf(NotFoundError);
    expect(missing).toMatchObject({ status: 404, message: expect.stringContaining('nobody') });
  });

  it.each([
    [404, '', 'NotFoundError', 'GET /version was answered with status 404'],
    [500, '{"error":"boom"}', 'UnavailableError', 'boom'],
    [400, '<html>', 'InvalidError', 'GET /version was answered with status 400'],
    [409, '{"error":"full","code":"exhausted","details":{"pool":"p"}}', 'ExhaustedError', 'full'],
    [500, '{"error":"no","code":"kernel"}', 'KernelError', 'no'],
    [418, '{"error":"tea","code":"constructor"}', 'InvalidError', 'tea'],
  ])('of status %d with %j: %s', async (status, body, name, message) => {
    await using server = await listening(
      createServer((_asked, answer) => answer.writeHead(status).end(body)),
    );
    using other = new SandClient({ apiUrl: `http://127.0.0.1:${portOf(server)}` });
    expect(await refusalOf(other.version())).toMatchObject({ name, message, status });
  });

  it('say that nothing answers, that it is too slow, or that it is no agent', async () => {
    using nobody = new SandClient({ apiUrl: 'http://127.0.0.1:1' });
    expect(await refusalOf(nobody.version())).toMatchObject({
      name: 'UnavailableError',
      status: undefined,
      message: expect.stringContaining('No agent answers at http://127.0.0.1:1 (connect ECONNREFUSED'),
    });
    using gone = new SandClient({ apiUrl: 'unix:///nowhere.sock' });
    await expect(gone.version()).rejects.toThrow('ENOENT /nowhere.sock');
    await using silent = await listening(tcpServer());
    using hasty = new SandClient({ apiUrl: `http://127.0.0.1:${portOf(silent)}`, timeoutMs: 100 });
    await expect(hasty.version()).rejects.toThrow('no answer within 0.1 s');
    await using stranger = await listening(createServer((_asked, answer) => answer.end('welcome')));
    using astray = new SandClient({ apiUrl: `http://127.0.0.1:${portOf(stranger)}` });
    await expect(astray.version()).rejects.toThrow('is no sand-agent');
  });

  it('come from the signal, before and during a call', async () => {
    await using silent = await listening(tcpServer());
    using patient = new SandClient({ apiUrl: `http://127.0.0.1:${portOf(silent)}`, timeoutMs: 0 });
    const reason = new Error('enough');
    await expect(patient.version({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const stop = new AbortController();
    const waiting = patient.networks({ signal: stop.signal });
    stop.abort(reason);
    await expect(waiting).rejects.toBe(reason);
  });
});

describe('connections', () => {
  const counted = async (server: Server) => {
    let connections = 0;
    const target = await listening(server.on('connection', () => ++connections));
    return { target, url: `http://127.0.0.1:${portOf(target)}`, connections: () => connections };
  };

  it('are used again, and renewed when the agent has closed them', async () => {
    const { target, url, connections } = await counted(createServer(app()));
    await using _target = target;
    using other = new SandClient({ apiUrl: url });
    for (let i = 0; i < 5; i++) await other.version();
    expect(connections()).toBe(1);
    target.closeIdleConnections();
    await until(async () => (await other.version()) === VERSION);
    expect(connections()).toBe(2);
  });

  it('with TLS show the certificate of the client, and believe only the CA', async () => {
    const files = await ensureCertificates(join(ant.directory, 'tls'), parseIpAddress('127.0.0.1'));
    const [cert, key, ca] = [files.serverCert, files.serverKey, files.ca].map(file => readFileSync(file));
    await using server = await listening(tlsServer({ cert, key, ca, requestCert: true }, app()));
    const apiUrl = `https://127.0.0.1:${portOf(server)}`;
    const tls = { cert: files.clientCert, key: files.clientKey, ca: files.ca };
    using known = new SandClient({ apiUrl, tls });
    expect(await known.version()).toBe(VERSION);
    for (const less of [{}, { ca: files.ca }]) {
      using stranger = new SandClient({ apiUrl, tls: less });
      expect(await refusalOf(stranger.version())).toBeInstanceOf(UnavailableError);
    }
    using misled = new SandClient({ apiUrl, tls: { ca: '/nowhere.pem' } });
    await expect(misled.version()).rejects.toThrow('The CA file /nowhere.pem is not readable');
  });
});
