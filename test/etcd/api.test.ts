import { mkdtempSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import request from 'supertest';
import { apiApp } from '../../api/app.js';
import { ApiServer } from '../../api/server.js';
import { Kernel } from '../../overlay/kernel.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { LogBook } from '../support/log-book.js';
import { NetworkHost } from '../support/network-host.js';
import { unixRequest } from '../support/unix-http.js';

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

  it('tells clients that a connection may rest for longer than they let it', async () => {
    const { headers } = await unixRequest({ socket: socket(), path: '/version' });
    const [, seconds] = /^timeout=(\d+)$/.exec(String(headers['keep-alive'])) ?? [];
    expect(Number(seconds)).toBeGreaterThan(90); // Go's net/http
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

  it('gives the VNI that is asked for, and refuses one that is taken with 409', async () => {
    const made = await api().post('/networks').send({ vxlan_vni: 4242 });
    expect([made.status, made.body.network.vxlan_vni]).toEqual([201, 4242]);
    const again = await api().post('/networks').send({ vxlan_vni: 4242 });
    expect([again.status, again.body.code]).toEqual([409, 'conflict']);
    expect(again.body.error).toContain(`network ${made.body.network.id}`);
    expect((await api().post('/networks').send({})).body.network.vxlan_vni).toBe(1);
  });

  it('gives a VNI that eight ask for to one of them', async () => {
    const asked = Array.from({ length: 8 }, () => api().post('/networks').send({ vxlan_vni: 77 }));
    const answers = await Promise.all(asked);
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 409, 409, 409, 409, 409, 409, 409]);
    expect(await keys()).toHaveLength(4); // record, attributes, pool, claim
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
    ['dataplane', 'veth'],
    ['dataplane', 7],
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
