/** CONNECT where the APIs of a cluster speak TLS: to the client, and from agent to agent. */
import { readFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Tunnels } from '../../api/connect.js';
import type { Credentials } from '../../api/hop.js';
import { parseIpv4 } from '../../model/scalars.js';
import { ensureCertificates } from '../../store/certificates.js';
import { type ConnectHost, ConnectLab } from '../support/connect-lab.js';
import { LogBook } from '../support/log-book.js';
import { digestOfPattern, pattern } from '../support/pattern.js';
import { OK_HEAD, RawClient } from '../support/raw-client.js';
import { PORTS } from '../support/target-ports.js';

const AT = '127.0.0.1';

let lab: ConnectLab;
let ant: ConnectHost;
let cat: ConnectHost;
let ip: string;
let port: number;
let client: Credentials;
let server: Server;
let tunnels: Tunnels;

beforeAll(async () => {
  lab = await ConnectLab.open();
  [ant, cat] = await lab.hosts('ant', 'cat');
  const shop = await ant.host.create({ name: 'shop' });
  const target = await lab.container(ant, shop, 'target');
  ip = target.ip;
  await lab.targets(target.netns);
  const files = await ensureCertificates(join(lab.netns.directory, 'tls'), parseIpv4(AT));
  const read = (cert: string, key: string) => ({
    cert: readFileSync(cert),
    key: readFileSync(key),
    ca: readFileSync(files.ca),
  });
  client = read(files.clientCert, files.clientKey);
  const own = read(files.serverCert, files.serverKey);
  server = createTlsServer({ ...own, requestCert: true, rejectUnauthorized: true }) as unknown as Server;
  tunnels = new Tunnels(ant.host.engine, { port: 1, credentials: () => undefined, log: new LogBook() });
  tunnels.attach(server);
  await new Promise<void>(resolve => server.listen(0, AT, resolve));
  port = (server.address() as AddressInfo).port;
  // To other hosts, ant is reached there.
  const { endpoint } = target;
  await lab.invent(shop.record.id, endpoint, { hostname: 'ant', api_hostname: AT });
});
afterAll(async () => {
  tunnels?.[Symbol.dispose]();
  await new Promise(resolve => (server ? server.close(resolve) : resolve(undefined)));
  await lab?.[Symbol.asyncDispose]();
});

const pathTo = (to: number) => `/networks/shop?ip=${ip}&port=${to}`;
const dial = () => RawClient.toTls({ host: AT, port, ...client });

/** A door of cat's without TLS, from which others are reached by TLS. */
async function dialThrough(credentials: Credentials | undefined) {
  const log = new LogBook();
  const hops = new Tunnels(cat.host.engine, { port, credentials: () => credentials, log });
  const { createServer } = await import('node:http');
  const plain = createServer();
  hops.attach(plain);
  await new Promise<void>(resolve => plain.listen(0, AT, resolve));
  const raw = RawClient.to({ host: AT, port: (plain.address() as AddressInfo).port });
  const close = () => {
    hops[Symbol.dispose]();
    plain.close();
  };
  return { raw, [Symbol.dispose]: close };
}

it('gives the head alone, and then what the target says first', async () => {
  using tunnel = dial().request(pathTo(PORTS.greet));
  await tunnel.receives('hello\n');
  expect(tunnel.reads.map(String)).toEqual([OK_HEAD, 'hello\n']);
});

it('stays open for the answer when the client ends first', async () => {
  const bytes = 2_000_000;
  using tunnel = dial().request(pathTo(PORTS.digest));
  await tunnel.opened();
  for (const chunk of pattern(bytes)) tunnel.socket.write(chunk);
  tunnel.socket.end();
  expect(JSON.parse(await tunnel.untilEnd())).toEqual(digestOfPattern(bytes));
});

it('stays open for the client when the target ends first', async () => {
  const bytes = 500_000;
  using tunnel = dial().request(pathTo(PORTS.farewell));
  expect(await tunnel.untilEnd()).toBe('bye');
  for (const chunk of pattern(bytes)) tunnel.socket.write(chunk);
  tunnel.socket.end();
  await tunnel.untilClosed();
  using asking = dial().request(pathTo(PORTS.farewells));
  expect(JSON.parse(await asking.untilEnd())).toEqual(digestOfPattern(bytes));
});

it('refuses as without TLS', async () => {
  expect(await dial().request(pathTo(9)).answer()).toMatchObject({ status: 502 });
  expect(await dial().request('/networks/nobody?ip=10.0.0.2&port=1').answer()).toMatchObject({ status: 404 });
});

it('leads through another agent, which is shown our certificate', async () => {
  using way = await dialThrough(client);
  const tunnel = way.raw.request(pathTo(PORTS.digest), { behind: 'abc' });
  await tunnel.opened();
  tunnel.socket.end();
  expect(JSON.parse(await tunnel.untilEnd())).toMatchObject({ bytes: 3 });
});

it('leads nowhere without it', async () => {
  using way = await dialThrough(undefined);
  const answer = await way.raw.request(pathTo(PORTS.echo)).answer();
  expect(answer).toMatchObject({ status: 503, body: { details: { hosts: ['ant'] } } });
});
