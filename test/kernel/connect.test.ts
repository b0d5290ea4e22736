/** CONNECT, as clients see it: a host with an endpoint (ant), one with the targets (bee), one without any (cat). */
import { readdirSync } from 'node:fs';
import type { Network } from '../../model/records.js';
import type { IpAddress, NetnsPath } from '../../model/scalars.js';
import { ok } from '../support/command.js';
import { type ConnectHost, ConnectLab } from '../support/connect-lab.js';
import type { TestNetns } from '../support/netns.js';
import { digestOfPattern, pattern } from '../support/pattern.js';
import { OK_HEAD, RawClient } from '../support/raw-client.js';
import { PORTS } from '../support/target-ports.js';
import { until } from '../support/until.js';

let lab: ConnectLab;
let ant: ConnectHost;
let bee: ConnectHost;
let cat: ConnectHost;
let shop: Network;
let source: TestNetns;
let target: TestNetns;
let ip: string;

beforeAll(async () => {
  lab = await ConnectLab.open();
  [ant, bee, cat] = await lab.hosts('ant', 'bee', 'cat');
  shop = await ant.host.create({ name: 'shop' });
  source = (await lab.container(ant, shop, 'source')).netns;
  ({ netns: target, ip } = await lab.container(bee, shop, 'target'));
  await lab.targets(target);
});
afterAll(() => lab?.[Symbol.asyncDispose]());

const pathTo = (port: number, address = ip) => `/networks/${shop.record.id}?ip=${address}&port=${port}`;
const overUnix = (host: ConnectHost) => RawClient.to({ path: host.socketPath });
/** Connections that a port of the target holds. */
const heldBy = async (port: number) =>
  (await target.exec('ss', '-Htan', 'state', 'all', 'sport', `= :${port}`))
    .split('\n')
    .filter(line => line !== '' && !/^(TIME-WAIT|LISTEN)/.test(line)).length;

const descriptors = () => readdirSync('/proc/self/fd').length;

/** The ways to one target: from a host that has an endpoint, and through such a host. */
const WAYS = [
  ['from an endpoint of the host, over TCP', () => lab.dial(ant)],
  ['from an endpoint of the host, over the unix socket', () => overUnix(ant)],
  ['through another host, over TCP', () => lab.dial(cat)],
  ['through another host, over the unix socket', () => overUnix(cat)],
] as const;

describe.each(WAYS)('a tunnel %s', (way, dial) => {
  it('carries bytes both ways', async () => {
    using client = dial().request(pathTo(PORTS.echo));
    await client.opened();
    client.socket.write('one');
    await client.receives('one');
    client.socket.write('two');
    await client.receives('onetwo');
    client.socket.end();
    expect(await client.untilEnd()).toBe('onetwo');
    await client.untilClosed();
    expect(client.error).toBeUndefined();
  });

  it('takes the name of the network for its id', async () => {
    using client = dial().request(`/networks/shop?port=${PORTS.greet}&ip=${ip}`);
    await client.receives('hello\n');
  });

  it('gives the head alone, and then what the target says first', async () => {
    const pauses: number[] = [];
    for (let count = 0; count < 5; count += 1) {
      using client = dial().request(pathTo(PORTS.greet));
      await client.receives('hello\n');
      expect(client.reads.map(String)).toEqual([OK_HEAD, 'hello\n']);
      const [head = 0, first = 0] = client.readAt;
      pauses.push(first - head);
    }
    // A busy machine may read the head late, but not five times.
    expect(Math.max(...pauses)).toBeGreaterThan(15);
  });

  it('passes on what comes with the request', async () => {
    using client = dial().request(pathTo(PORTS.echo), { behind: 'early' });
    await client.receives('early');
  });

  it('stays open for the answer when the client ends first, in the packet of its request too', async () => {
    const bytes = 3_000_000;
    using client = dial().request(pathTo(PORTS.digest));
    await client.opened();
    for (const chunk of pattern(bytes)) client.socket.write(chunk);
    client.socket.end();
    expect(JSON.parse(await client.untilEnd())).toEqual(digestOfPattern(bytes));

    using brief = dial();
    brief.request(pathTo(PORTS.digest), { behind: 'abc' }).socket.end();
    expect(JSON.parse(await brief.untilEnd())).toMatchObject({ bytes: 3 });
  });

  it('stays open for the client when the target ends first', async () => {
    const bytes = 1_000_000;
    using client = dial().request(pathTo(PORTS.farewell));
    expect(await client.untilEnd()).toBe('bye');
    for (const chunk of pattern(bytes)) client.socket.write(chunk);
    client.socket.end();
    await client.untilClosed();
    const wanted = digestOfPattern(bytes);
    await until(async () => {
      using asking = dial().request(pathTo(PORTS.farewells));
      return JSON.parse(await asking.untilEnd()).sha256 === wanted.sha256;
    });
  });

  it("ends with the target's reset", async () => {
    using client = dial().request(pathTo(PORTS.reset));
    await client.opened();
    client.socket.write('x');
    expect(await client.untilEnd()).toBe('');
    if (way.includes('over TCP')) expect(client.error?.code).toBe('ECONNRESET');
  });

  it("ends with the client's reset or disappearance, and leaves no connection to the target", async () => {
    const gone = [dial().request(pathTo(PORTS.echo)), dial().request(pathTo(PORTS.echo))];
    for (const client of gone) await client.opened();
    expect(await heldBy(PORTS.echo)).toBe(2);
    for (const client of gone) {
      if (way.includes('TCP')) client.socket.resetAndDestroy();
      else client.socket.destroy();
    }
    await until(async () => (await heldBy(PORTS.echo)) === 0);
  });
});

describe('what cannot be opened', () => {
  const refused = (host: ConnectHost, path: string) => lab.dial(host).request(path).answer();

  it.each([
    ['a port that nobody listens on', () => pathTo(9), 502, { reason: 'ECONNREFUSED', port: 9 }],
    ['an address that nobody has', () => pathTo(80, '10.0.0.77'), 502, { reason: 'EHOSTUNREACH' }],
    ['an unknown id', () => `/networks/6ffc3990-b212-47f2-a5d1-2afe7526e548?ip=${ip}&port=80`, 404, {}],
    ['an unknown name', () => `/networks/nobody?ip=${ip}&port=80`, 404, { name: 'nobody' }],
    ['an address outside the network', () => pathTo(80, '10.9.0.2'), 400, { field: 'ip' }],
    ['the network address', () => pathTo(80, '10.0.0.0'), 400, { field: 'ip' }],
    ['the broadcast address', () => pathTo(80, '10.0.0.255'), 400, { field: 'ip' }],
    ['a missing port', () => `/networks/shop?ip=${ip}`, 400, { field: 'port' }],
    ['a doubled ip', () => `/networks/shop?ip=${ip}&ip=${ip}&port=80`, 400, { field: 'ip' }],
    ['another host of the web', () => 'example.com:443', 400, { field: 'path' }],
    ['an absolute URL', () => `http://h/networks/shop?ip=${ip}&port=80`, 400, { field: 'path' }],
    ['bytes that are no UTF-8', () => `/networks/%ff?ip=${ip}&port=80`, 400, { field: 'path' }],
    ['a slash in a name', () => `/networks/a%2F..%2Fb?ip=${ip}&port=80`, 404, {}],
    ['a path with a blank', () => '/networks/a b', 400, { field: 'request' }],
    ['an endless path', () => `/networks/${'a'.repeat(40_000)}`, 431, { field: 'request' }],
  ])(
    '%s: an answer of HTTP, from an endpoint and through another host',
    async (_what, path, status, details) => {
      for (const host of [ant, cat]) {
        const answer = await refused(host, path());
        expect(answer).toMatchObject({ status, body: { error: expect.any(String), details } });
        expect(answer.headers).toMatchObject({
          'content-type': 'application/json; charset=utf-8',
          'content-length': `${Buffer.byteLength(answer.text)}`,
          connection: 'close',
        });
      }
    },
  );

  it('504 when nobody answers the connection', async () => {
    // A neighbour that is known and is not there: the packets are sent and lost.
    await source.ip('neigh add 10.0.0.88 lladdr 02:84:0a:00:00:58 dev sand0 nud permanent');
    const answers = await Promise.all([ant, cat].map(host => refused(host, pathTo(80, '10.0.0.88'))));
    for (const { status, body } of answers) {
      // Through bee the address is not even found.
      expect([502, 504]).toContain(status);
      expect(body.error).toContain('10.0.0.88:80');
    }
    expect(answers[0]).toMatchObject({ status: 504, body: { code: 'unavailable' } });
  });

  it('400 for a network that no host has an active endpoint in', async () => {
    const { record } = await ant.host.create({ name: 'empty' });
    const path = `/networks/${record.id}?ip=10.0.0.2&port=80`;
    expect(await refused(cat, path)).toMatchObject({ status: 400, body: { code: 'invalid' } });
    const { netnsEndpoints } = ant.host.engine;
    const nowhere = { networkId: record.id, netns: undefined, address: undefined, mac: undefined };
    await netnsEndpoints.create(nowhere);
    for (const host of [ant, cat]) expect(await refused(host, path)).toMatchObject({ status: 400 });
  });

  it('survives clients that leave at any moment, and keeps nothing open for them', async () => {
    const before = descriptors();
    for (const leave of ['destroy', 'resetAndDestroy'] as const) {
      const clients = Array.from({ length: 30 }, (_, index) =>
        lab
          .dial(index % 2 ? ant : cat)
          .request(pathTo(index % 3 ? PORTS.greet : 9), { behind: 'x'.repeat(index) }),
      );
      for (const [index, client] of clients.entries()) setTimeout(() => client.socket[leave](), index);
      for (const client of clients) await client.untilClosed();
    }
    await until(async () => (await heldBy(PORTS.greet)) === 0);
    await until(() => descriptors() <= before, { what: `no more than ${before} descriptors are open` });
    using client = lab.dial(ant).request(pathTo(PORTS.greet));
    await client.receives('hello\n');
  });
});

describe('the way through other hosts', () => {
  it('is not taken twice', async () => {
    const headers = ['X-Sand-Forwarded-By: dog'];
    const answer = await lab.dial(cat).request(pathTo(PORTS.echo), { headers }).answer();
    expect(answer).toMatchObject({ status: 503, body: { code: 'unavailable' } });
    expect(answer.body.error).toMatch(/on host cat, to which dog has forwarded/);
    using client = lab.dial(ant).request(pathTo(PORTS.greet), { headers });
    await client.receives('hello\n');
  });

  it('leads past hosts that are down, are none, or have no endpoint', async () => {
    const { endpoint } = await lab.container(ant, await ant.host.create({ name: 'far' }), 'far');
    const far = endpoint.network_id;
    const invent = (n: number, hostname: string, api_hostname: string) =>
      lab.invent(
        far,
        { ...endpoint, id: endpoint.id.replace(/^.{8}/, `0000000${n}`) as never },
        { hostname, api_hostname },
      );
    await invent(1, 'down', '127.0.9.1');
    await invent(2, 'nobody', 'no-such-host.invalid');
    await invent(3, 'bee', bee.api);
    const address = endpoint.target_veth_ip.split('/')[0];
    // The order is by chance: each of eight has met what is in its way before.
    for (let count = 0; count < 8; count += 1) {
      const answer = await lab.dial(cat).request(`/networks/${far}?ip=${address}&port=9`).answer();
      expect(answer).toMatchObject({ status: 502, body: { details: { reason: 'ECONNREFUSED' } } });
    }
    const whole = await lab.dial(bee).request(`/networks/far?ip=${address}&port=9`).answer();
    expect(whole.status).toBe(502);
  });

  it('503 names every host when none can be reached', async () => {
    const { endpoint } = await lab.container(ant, await ant.host.create({ name: 'lost' }), 'lost');
    await ant.host.engine.netnsEndpoints.remove(endpoint.id);
    const lost = endpoint.network_id;
    await lab.invent(lost, endpoint, { hostname: 'down', api_hostname: '127.0.9.1' });
    const answer = await lab.dial(cat).request(`/networks/${lost}?ip=10.0.0.2&port=80`).answer();
    expect(answer).toMatchObject({ status: 503, body: { details: { hosts: ['down'] } } });
    expect(answer.body.error).toContain('down at 127.0.9.1: connect ECONNREFUSED');
  });
});

it.each([
  ['a path that is gone', () => '/run/netns/sandtest-none'],
  ['another namespace, without the address', () => source.path],
  ['no namespace', () => ant.socketPath],
])('openTcpSocket() gives none in %s', async (_what, path) => {
  const { kernel } = ant.host.engine.options;
  const route = { from: ip as IpAddress, to: ip as IpAddress };
  expect(await kernel.openTcpSocket(path() as NetnsPath, route)).toBeUndefined();
});

describe('an endpoint whose namespace is gone', () => {
  it('is passed over', async () => {
    const pair = await ant.host.create({ name: 'pair', range: '10.5.0.0/24' as never });
    const lost = await lab.container(ant, pair, 'lost-one');
    const other = await lab.container(ant, pair, 'other');
    await lab.targets(other.netns);
    const path = `/networks/pair?ip=${other.ip}&port=${PORTS.greet}`;
    const name = lost.netns.path.replace('/run/netns/', '');
    await ok(['ip', 'netns', 'delete', name]);
    using client = lab.dial(ant).request(path);
    await client.receives('hello\n');
    await ant.host.engine.netnsEndpoints.remove(other.endpoint.id);
    const answer = await lab.dial(ant).request(path).answer();
    expect(answer).toMatchObject({ status: 503, body: { details: { hostname: 'ant' } } });
  });
});

it('ApiServer ends its tunnels when it closes, and the targets see it', async () => {
  const through = [lab.dial(cat), lab.dial(ant)].map(client => client.request(pathTo(PORTS.echo)));
  for (const client of through) await client.opened();
  await ant.server[Symbol.asyncDispose]();
  await cat.server[Symbol.asyncDispose]();
  for (const client of through) {
    await client.untilClosed();
    expect(client.error?.code).toBe('ECONNRESET'); // an end in order would say that all has been sent
  }
  await until(async () => (await heldBy(PORTS.echo)) === 0);
  ant.server = await lab.serve(ant.host, ant);
  cat.server = await lab.serve(cat.host, cat);
});

it('without etcd, endpoints of the host serve on, and nobody else is found', async () => {
  await lab.etcd.stop();
  using client = lab.dial(ant).request(pathTo(PORTS.greet));
  await client.receives('hello\n');
  const answer = await lab.dial(cat).request('/networks/pair?ip=10.5.0.2&port=80').answer();
  expect(answer).toMatchObject({ status: 503, body: { details: { etcd: lab.etcd.hosts.join() } } });
});
