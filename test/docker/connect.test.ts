/** CONNECT with real agents: many tunnels, much through one, nothing left of them; hosts that go away. */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { DockerHost } from '../support/docker-host.js';
import type { FloodReport } from '../support/flood-main.js';
import { digestOfPattern, pattern } from '../support/pattern.js';
import { digestBehindHead, RawClient } from '../support/raw-client.js';
import {
  addressIn,
  createNamed,
  netnsOf,
  removeContainers,
  runSleeper,
  SandLab,
} from '../support/sand-lab.js';
import { PORTS, Targets } from '../support/target-ports.js';
import { unixRequest } from '../support/unix-http.js';
import { until } from '../support/until.js';

const API_SOCKET = '/run/sand/api.sock';
const API_PORT = 9999;
const FLOOD = fileURLToPath(new URL('../support/flood-main.js', import.meta.url));
/** Hosts of the lab by what they have: an endpoint; an endpoint and the targets; none. */
const [ANT, BEE, CAT] = [1, 2, 3];

let sand: SandLab;
let targets: Targets;
let network: string;
let ip: string;

beforeAll(async () => {
  const env = ({ address }: DockerHost) => ({ API_HOSTNAME: address, SAND_LISTEN: '0.0.0.0' });
  sand = await SandLab.start({ hosts: 3 }, env);
  for (const on of [ANT, BEE, CAT]) await untilServed(on);
  network = (await post<{ network: { id: string } }>(ANT, '/networks', { name: 'shop' })).network.id;
  await addEndpoint(ANT, 'source');
  ip = await addEndpoint(BEE, 'target');
  targets = await targetsIn(sand.host(BEE), '/run/netns/target');
});
afterAll(async () => {
  await targets?.[Symbol.asyncDispose]();
  await sand?.stop();
});

/** The API's socket follows the plugin's. */
const untilServed = (on: number) =>
  until(
    async () =>
      (await unixRequest({ socket: sand.host(on).path(API_SOCKET), path: '/version' })).status === 200,
  );

async function post<T>(on: number, path: string, body: unknown): Promise<T> {
  const socket = sand.host(on).path(API_SOCKET);
  const { status, text } = await unixRequest({ socket, method: 'POST', path, body: JSON.stringify(body) });
  if (status !== 201) throw new Error(`${path}: ${status} ${text}`);
  return JSON.parse(text) as T;
}

/** An endpoint in a namespace of its own; gives its address. */
async function addEndpoint(on: number, netns: string): Promise<string> {
  await sand.host(on).namespaces.exec(['ip', 'netns', 'add', netns]);
  const activate_params = { ns_handle_path: `/run/netns/${netns}` };
  const { endpoint } = await post<{ endpoint: { target_veth_ip: string } }>(on, '/endpoints', {
    network_id: network,
    activate: true,
    activate_params,
  });
  return endpoint.target_veth_ip.split('/')[0] ?? '';
}

const targetsIn = (host: DockerHost, netns: string) => Targets.start(host.namespaces.command([], { netns }));
const pathTo = (port: number) => `/networks/${network}?ip=${ip}&port=${port}`;
const dial = (on: number) => RawClient.to({ path: sand.host(on).path(API_SOCKET) });

/** Open descriptors of an agent, those of network namespaces apart. */
async function descriptors(on: number): Promise<{ all: number; namespaces: number }> {
  const directory = `/proc/${sand.agent(on).pid}/fd`;
  const links = await Promise.all(
    (await readdir(directory)).map(fd => readlink(`${directory}/${fd}`).catch(() => undefined)),
  );
  const open = links.filter(link => link !== undefined);
  return { all: open.length, namespaces: open.filter(link => link.startsWith('net:')).length };
}

async function residentMiB(on: number): Promise<number> {
  const status = await readFile(`/proc/${sand.agent(on).pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
}

async function flood(on: number, count: number): Promise<FloodReport> {
  const argv = [process.execPath, FLOOD, '127.0.0.1', `${API_PORT}`, pathTo(PORTS.echo), `${count}`];
  return JSON.parse(await sand.host(on).namespaces.exec(argv, { timeoutMs: 120_000 })) as FloodReport;
}

async function upload(socket: RawClient['socket'], bytes: number): Promise<void> {
  for (const chunk of pattern(bytes)) {
    if (!socket.write(chunk)) await new Promise(resolve => socket.once('drain', resolve));
  }
  socket.end();
}

/** Through an endpoint of the host, and through another host. */
const WAYS = [
  ['from an endpoint of the host', ANT],
  ['through another host', CAT],
] as const;

it.each(WAYS)(
  '1,000 tunnels at once %s, again and again, leave nothing behind',
  async (_way, on) => {
    const all = { opened: 1_000, right: 1_000, ended: 1_000, errors: [] };
    await flood(on, 10);
    const before = await Promise.all([ANT, BEE, CAT].map(descriptors));
    expect(await flood(on, 1_000)).toEqual(all);
    const resident = await residentMiB(on);
    for (let count = 0; count < 6; count += 1) expect(await flood(on, 1_000)).toEqual(all);
    await until(
      async () => {
        const now = await Promise.all([ANT, BEE, CAT].map(descriptors));
        // Some of before may have been on their way out.
        return now.every(({ all }, host) => all <= (before[host]?.all ?? 0));
      },
      { what: `no more descriptors than ${JSON.stringify(before)} are open` },
    );
    // What is closed waits for the collector, 66 MiB at most in ten rounds. One that stayed would hold some 50 KiB, the
    // 6,000 together 300 MiB.
    expect((await residentMiB(on)) - resident).toBeLessThan(100);
  },
  120_000,
);

it('1 GB through one tunnel arrives whole, and does not stay in memory', async () => {
  const bytes = 1_000_000_000;
  const before = await residentMiB(ANT);
  const client = dial(ANT).request(pathTo(PORTS.source), { behind: `${bytes}\n` });
  client.socket.removeAllListeners('data');
  const digest = await digestBehindHead(client.socket);
  expect(digest).toEqual(digestOfPattern(bytes));
  expect((await residentMiB(ANT)) - before).toBeLessThan(150);
}, 60_000);

it('300 MB the other way, through another host, arrive whole', async () => {
  const bytes = 300_000_000;
  using client = dial(CAT).request(pathTo(PORTS.digest));
  await client.opened();
  await upload(client.socket, bytes);
  expect(JSON.parse(await client.untilEnd())).toEqual(digestOfPattern(bytes));
}, 60_000);

it("a container of Docker's is dialled from within, from its first moment on", async () => {
  const host = sand.host(CAT);
  await createNamed(host, 'docked');
  const name = await runSleeper(host, 'server', '--network', 'docked');
  try {
    const address = await addressIn(host, name, 'docked');
    const target = (port: number) => `/networks/docked?ip=${address}&port=${port}`;
    expect(await dial(CAT).request(target(80)).answer()).toMatchObject({ status: 502 });
    await using _servers = await targetsIn(host, await netnsOf(host, name));
    for (const on of [CAT, ANT]) {
      using client = dial(on).request(target(PORTS.greet));
      await client.receives('hello\n');
    }
  } finally {
    await removeContainers(host, name);
  }
});

describe('when a host goes', () => {
  const works = async (on: number) => {
    using client = dial(on).request(pathTo(PORTS.greet));
    await client.receives('hello\n');
  };

  it('another one is taken, whether its agent has stopped or its cable is out', async () => {
    // Which of the two is asked first is a matter of chance.
    const { code, ms } = await sand.agent(ANT).stop();
    expect(code).toBe(0);
    expect(ms).toBeLessThan(5_000);
    for (let count = 0; count < 6; count += 1) await works(CAT);
    await sand.startAgent(ANT);
    await untilServed(ANT);
    await sand.lab.setCable(ANT, 'down');
    for (let count = 0; count < 4; count += 1) await works(CAT);
    await sand.lab.setCable(ANT, 'up');
  }, 60_000);

  it('an agent stops at once in spite of its tunnels, and their clients see it', async () => {
    const clients = Array.from({ length: 20 }, (_, index) =>
      dial(CAT).request(pathTo(index ? PORTS.echo : PORTS.greet)),
    );
    for (const client of clients) await client.opened();
    const { code, ms } = await sand.agent(CAT).stop();
    expect(code).toBe(0);
    expect(ms).toBeLessThan(5_000);
    for (const client of clients) await client.untilEnd();
  });
});
