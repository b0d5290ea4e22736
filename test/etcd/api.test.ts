import { mkdtempSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import request from 'supertest';
import { apiApp } from '../../api/app.js';
import { ApiServer } from '../../api/server.js';
import { parseDuration, SandClient } from '../../cli/client.js';
import { Kernel } from '../../overlay/kernel.js';
import { run } from '../support/command.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { LogBook } from '../support/log-book.js';
import { NetworkHost } from '../support/network-host.js';

const CLI = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const VERSION = 'v0.1.0';

let etcd: EtcdCluster;
let kernel: Kernel;
let host: NetworkHost;
let server: ApiServer;
let directory: string;
let prefixes = 0;

beforeAll(async () => {
  etcd = await startEtcd({ members: 1 });
  kernel = await Kernel.start({ log: new LogBook() });
});
afterAll(async () => {
  await kernel[Symbol.asyncDispose]();
  await etcd.stop();
});

const socket = () => join(directory, 'api.sock');
const keys = () => etcd.keys(`/api${prefixes}`);

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sand-api-'));
  prefixes += 1;
  host = await NetworkHost.open({ hosts: etcd.hosts, prefix: `/api${prefixes}`, name: 'ant', kernel });
  server = await ApiServer.listen(host.engine, {
    port: 0,
    listen: undefined,
    socketPath: socket(),
    tls: undefined,
    version: VERSION,
    log: new LogBook(),
  });
});
afterEach(async () => {
  await server[Symbol.asyncDispose]();
  await host[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

const api = () => request(apiApp(host.engine, VERSION, new LogBook()) as unknown as Server);

describe('the API', () => {
  it('answers its version', async () => {
    const { status, body } = await api().get('/version');
    expect([status, body]).toEqual([200, { version: VERSION }]);
  });

  it('makes, lists, shows and deletes a network, over TCP as over the unix socket', async () => {
    expect((await api().get('/networks')).body).toEqual({ networks: [] });
    const made = await api().post('/networks').send({ name: 'shop', ip_range: '10.1.0.0/24' });
    expect(made.status).toBe(201);
    expect(made.body.network).toMatchObject({
      name: 'shop',
      type: 'overlay',
      ip_range: '10.1.0.0/24',
      gateway: '10.1.0.1/24',
      vxlan_vni: 1,
    });
    const { id } = made.body.network;
    const overSocket = request(`http+unix://${encodeURIComponent(socket())}`);
    expect((await overSocket.get('/networks')).body.networks).toEqual([made.body.network]);
    expect((await api().get(`/networks/${id}`)).body).toEqual({ network: made.body.network });
    expect((await api().get('/networks/shop')).body.network.id).toBe(id);
    expect((await api().delete(`/networks/${id}`)).status).toBe(204);
    expect((await api().get(`/networks/${id}`)).status).toBe(404);
    expect(await keys()).toEqual([]);
  });

  it('takes the empty strings that clients of the original send for what they leave open', async () => {
    const { status, body } = await api()
      .post('/networks')
      .send({ id: '', name: '', type: '', ip_range: '', gateway: '' });
    expect(status).toBe(201);
    expect(body.network).toMatchObject({ name: `net-sc-${body.network.id}`, ip_range: '10.0.0.0/24' });
  });

  it('refuses an id that is taken with 409', async () => {
    const { body } = await api().post('/networks').send({});
    const again = await api().post('/networks').send({ id: body.network.id });
    expect(again.status).toBe(409);
    expect(again.body.error).toContain(body.network.id);
  });

  it.each([
    ['id', 7],
    ['id', 'no-uuid'],
    ['name', 'a/b'],
    ['name', { $gt: '' }],
    ['ip_range', '10.0.0.7/24'],
    ['ip_range', '10.0.0.0/31'],
    ['ip_range', 'fd00::/64'],
    ['gateway', '10.9.0.1'],
    ['gateway', ['10.0.0.1']],
    ['mtu', '1450'],
    ['mtu', 67],
    ['type', 'underlay'],
  ])('refuses %s %j with 400 that names the field, and changes nothing', async (field, value) => {
    const { status, body } = await api()
      .post('/networks')
      .send({ [field]: value });
    expect(status).toBe(400);
    expect(body).toMatchObject({ code: 'invalid', error: expect.stringContaining(field) });
    expect(await keys()).toEqual([]);
  });

  it.each([
    ['no JSON', '{"name":'],
    ['no object', '"text"'],
    ['too large', JSON.stringify({ name: 'x'.repeat(1_000_000) })],
  ])('refuses a body that is %s with 400', async (_what, text) => {
    const { status, body } = await api().post('/networks').type('json').send(text);
    expect([status, body.code]).toEqual([400, 'invalid']);
    expect(await keys()).toEqual([]);
  });

  it('answers 404 with a JSON error for what is not there', async () => {
    for (const path of ['/nothing', '/networks/nobody', '/networks/6ffc3990-b212-47f2-a5d1-2afe7526e548']) {
      const { status, body } = await api().get(path);
      expect([status, typeof body.error]).toEqual([404, 'string']);
    }
  });
});

describe('sand-agent-cli', () => {
  const cli = (...args: readonly string[]) =>
    run([process.execPath, CLI, '--api-url', `unix://${socket()}`, ...args]);

  it('prints the lines that scripts parse', async () => {
    expect(await cli('network-list')).toMatchObject({ status: 0, stdout: 'No existing network\n' });
    const made = await cli('network-create', '--name', 'shop', '--ip-range', '10.2.0.0/24');
    const [, id] = /id=(\S+)/.exec(made.stdout) ?? [];
    expect(made.stdout).toBe(
      `New network created:\n* id=${id} name=shop type=overlay ip-range=10.2.0.0/24, vni=1\n`,
    );
    expect(await cli('network-list')).toMatchObject({
      status: 0,
      stdout: `List of networks:\n* [${id}] shop (overlay VNI: 1)\n`,
    });
    expect((await cli('version')).stdout).toBe(`client version: ${VERSION}\nagent version: ${VERSION}\n`);
  });

  it('prints JSON with --json', async () => {
    await cli('network-create', '--name', 'shop');
    expect(JSON.parse((await cli('network-list', '--json')).stdout)).toMatchObject([{ name: 'shop' }]);
  });

  it.each([
    ['an unknown command', ['network-destroy'], 'network-destroy'],
    ['an unknown flag', ['network-list', '--colour'], 'colour'],
    ['a wrong duration', ['network-list', '--timeout', 'soon'], '--timeout is soon'],
    ['what the agent refuses', ['network-create', '--ip-range', '10.0.0.7/24'], 'host bits'],
  ])('ends with 1 and says why on standard error for %s', async (_what, args, text) => {
    const { status, stdout, stderr } = await cli(...args);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toContain(text);
  });

  it('says in one line when no agent answers', async () => {
    const { status, stderr } = await run([
      process.execPath,
      CLI,
      '--api-url',
      'http://127.0.0.1:1',
      'version',
    ]);
    expect([status, stderr.trim().split('\n').length]).toEqual([1, 1]);
    expect(stderr).toContain('No agent answers at http://127.0.0.1:1');
  });
});

describe('SandClient', () => {
  it('gives what the API gives, and its refusals as errors', async () => {
    const client = new SandClient({ apiUrl: `unix://${socket()}` });
    expect(await client.version()).toBe(VERSION);
    const made = await client.createNetwork({ name: 'shop' });
    expect(await client.networks()).toEqual([made]);
    await expect(client.createNetwork({ mtu: 1 })).rejects.toMatchObject({ status: 400 });
  });

  it.each(['', 'localhost:9999', 'ftp://a'])('refuses the API URL %j', apiUrl => {
    expect(() => new SandClient({ apiUrl })).toThrow('it must begin with');
  });
});

it.each([
  ['30s', 30_000],
  ['1m', 60_000],
  ['500ms', 500],
  ['2', 2_000],
])('parseDuration(%j) is %d ms', (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});
