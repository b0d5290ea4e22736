/** network-connect, curl and the client's agents through a real agent, into a real network. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { SandClient } from '../../cli/client.js';
import { CLI, CliHost } from '../support/cli-host.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { NetnsLab, type TestNetns } from '../support/netns.js';
import { textOf } from '../support/tcp-targets.js';
import { until } from '../support/until.js';

let etcd: EtcdCluster;
let lab: NetnsLab;
let ant: CliHost;
let target: ChildProcess;
let forwarder: ChildProcess | undefined;

/** Port 80 speaks HTTP; port 81 greets, and counts what comes until the other side ends. */
const TARGET = `
  const http = require('http'), net = require('net');
  http.createServer((q, r) => r.end(q.method + ' ' + q.url + ' of ' + q.socket.localAddress)).listen(80, '0.0.0.0');
  net.createServer({ allowHalfOpen: true }, c => {
    let n = 0;
    c.write('hello\\n');
    c.on('data', d => (n += d.length)).on('end', () => c.end(n + '\\n'));
  }).listen(81, '0.0.0.0', () => console.log('ready'));
`;

async function serveIn(netns: TestNetns): Promise<ChildProcess> {
  const argv = [`--net=${netns.path}`, '--', process.execPath, '-e', TARGET];
  const child = spawn('nsenter', argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  if (child.stdout) await once(child.stdout, 'data');
  return child;
}

beforeAll(async () => {
  etcd = await startEtcd();
  lab = await NetnsLab.open();
  const [first] = await lab.hosts('ant');
  const [red, blue] = [await lab.netns('red'), await lab.netns('blue')];
  const plan = { hosts: etcd.hosts, prefix: '/cli-connect', name: 'ant', netns: first, vtep: '10.99.0.1' };
  ant = lab.own(await CliHost.open(plan));
  await ant.out('network-create', '--name', 'shop');
  for (const netns of [red, blue]) await ant.out('endpoint-create', '-n', 'shop', '--ns', netns.path);
  target = await serveIn(blue);
});
afterAll(async () => {
  target?.kill('SIGKILL');
  await lab?.[Symbol.asyncDispose]();
  await etcd?.stop();
});
afterEach(() => forwarder?.kill('SIGKILL'));

it('curl fetches from inside the network', async () => {
  expect(await ant.out('curl', '-n', 'shop', 'http://10.0.0.3/a')).toBe('GET /a of 10.0.0.3');
  expect(await ant.out('curl', '-n', 'shop', '-X', 'DELETE', '10.0.0.3/b')).toBe('DELETE /b of 10.0.0.3');
});

it('curl tells in one line that the target refuses, or that nothing is there', async () => {
  const { status, stdout, stderr } = await ant.cli('curl', '-n', 'shop', '10.0.0.3:82');
  expect([status, stdout]).toEqual([1, '']);
  expect(stderr).toMatch(/^sand-agent-cli: .*10\.0\.0\.3.*\n$/);
  expect(await ant.cli('curl', '-n', 'nobody', '10.0.0.3')).toMatchObject({ status: 1, stdout: '' });
});

it('network-connect forwards a port, each side with its own end', async () => {
  const argv = ['network-connect', '-n', 'shop', '--ip', '10.0.0.3', '--port', '81'];
  forwarder = spawn(process.execPath, [CLI, '--api-url', ant.apiUrl, ...argv]);
  let stdout = '';
  forwarder.stdout?.on('data', text => {
    stdout += text;
  });
  await until(() => stdout.endsWith('\n'), { what: 'the line with the port' });
  const [, port] = /^Waiting connection on 127\.0\.0\.1:(\d+)\n$/.exec(stdout) ?? [];
  const counts = [0, 1, 3_000_000].map(async bytes => {
    const socket = connect(Number(port), '127.0.0.1');
    socket.end(Buffer.alloc(bytes));
    return textOf(socket);
  });
  expect(await Promise.all(counts)).toEqual(['hello\n0\n', 'hello\n1\n', 'hello\n3000000\n']);
  forwarder.kill('SIGINT');
  expect(await once(forwarder, 'exit')).toEqual([0, null]);
});

it('fetch reaches the network by a dispatcher of the client', async () => {
  using client = new SandClient({ apiUrl: ant.apiUrl });
  const dispatcher = await client.dispatcher('shop');
  expect(await (await fetch('http://10.0.0.3/x', { dispatcher })).text()).toBe('GET /x of 10.0.0.3');
  await dispatcher.close();
});

it('an error of the tunnel is typed', async () => {
  using client = new SandClient({ apiUrl: ant.apiUrl });
  const error = await client.connect({ network: 'shop', ip: '10.0.0.3', port: 82 }).catch(each => each);
  expect(error).toMatchObject({ name: 'UnavailableError', status: 502 });
});
