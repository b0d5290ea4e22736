/** network-connect and curl to the byte, against a stand-in of the agent: test/kernel/cli-connect.test.ts has the real one. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createServer as tlsServer } from 'node:https';
import { connect, createServer as tcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { CLI, cli } from '../support/cli-host.js';
import { ok } from '../support/command.js';
import { countingServer, listening, portOf, textOf } from '../support/tcp-targets.js';
import { TunnelStandIn } from '../support/tunnel-stand-in.js';
import { until } from '../support/until.js';

let agent: TunnelStandIn;

beforeEach(async () => {
  agent = await TunnelStandIn.open();
});
afterEach(() => agent[Symbol.asyncDispose]());

const refusedPort = async () => {
  await using server = await listening(tcpServer());
  return portOf(server);
};

/** A running network-connect. */
class Forwarder implements AsyncDisposable {
  stdout = '';
  stderr = '';
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown[]>;

  constructor(...args: readonly string[]) {
    this.#child = spawn(process.execPath, [CLI, '--api-url', agent.apiUrl, 'network-connect', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#ended = once(this.#child, 'close');
    this.#child.stdout?.on('data', text => {
      this.stdout += text;
    });
    this.#child.stderr?.on('data', text => {
      this.stderr += text;
    });
  }

  /** Port that it says it listens on. */
  async port(): Promise<number> {
    return Number(await until(() => /:(\d+)\n$/.exec(this.stdout)?.[1], { what: 'the line with the port' }));
  }

  /** Exit status after the signal. */
  async end(signal: NodeJS.Signals): Promise<unknown> {
    this.#child.kill(signal);
    return (await this.#ended)[0];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end('SIGKILL');
  }
}

describe('network-connect', () => {
  it('forwards every connection, each side with its own end', async () => {
    await using target = await countingServer();
    await using forwarder = new Forwarder('-n', 'shop', '--ip', '127.0.0.1', '--port', `${portOf(target)}`);
    const port = await forwarder.port();
    expect(forwarder.stdout).toBe(`Waiting connection on 127.0.0.1:${port}\n`);
    const counts = Array.from({ length: 20 }, async (_, n) => {
      const socket = connect(port, '127.0.0.1');
      socket.end(Buffer.alloc(100_000 * n));
      return textOf(socket);
    });
    expect(await Promise.all(counts)).toEqual(counts.map((_, n) => `hello\n${100_000 * n}\n`));
    expect(await forwarder.end('SIGINT')).toBe(0);
    expect(forwarder.stderr).toBe('');
  });

  it('holds back a fast sender for a slow reader', async () => {
    let read = 0;
    await using target = await listening(
      tcpServer(socket => socket.pause().on('data', chunk => (read += chunk.length))),
    );
    const paused = once(target, 'connection');
    await using forwarder = new Forwarder('-n', 'shop', '--ip', '127.0.0.1', '--port', `${portOf(target)}`);
    const socket = connect(await forwarder.port(), '127.0.0.1');
    const total = 200;
    let taken = 0;
    const megabyte = Buffer.alloc(1_000_000);
    const source = Readable.from(
      (function* () {
        for (; taken < total; taken++) yield megabyte;
      })(),
    );
    void pipeline(source, socket);
    const [reader] = await paused;
    const seen: number[] = [];
    await until(() => seen.push(taken) > 5 && seen.at(-6) === taken, { everyMs: 100, what: 'a standstill' });
    // What fits into the buffers of six sockets on the way.
    expect(taken).toBeLessThan(60);
    reader.resume();
    await until(() => read === total * 1_000_000, { timeoutMs: 20_000, what: 'everything has come' });
  });

  it('tells of a connection that fails, and goes on', async () => {
    await using target = await countingServer();
    const port = portOf(target);
    await using forwarder = new Forwarder('-n', 'shop', '--ip', '127.0.0.1', '--port', `${port}`, '--json');
    const { address, port: local } = JSON.parse(
      await until(() => forwarder.stdout.endsWith('}\n') && forwarder.stdout),
    );
    await target[Symbol.asyncDispose]();
    const failed = connect(local, address);
    const from = await once(failed, 'connect').then(() => failed.localPort);
    expect(await textOf(failed)).toBe('');
    await until(() => forwarder.stderr.endsWith('\n'), { what: 'the line of the failure' });
    expect(forwarder.stderr).toBe(
      `sand-agent-cli: connection of 127.0.0.1:${from}: target refuses: connect ECONNREFUSED 127.0.0.1:${port}\n`,
    );
    target.listen(port, '127.0.0.1');
    await once(target, 'listening');
    const again = connect(local, address);
    again.end('1');
    expect(await textOf(again)).toBe('hello\n1\n');
    expect(await forwarder.end('SIGTERM')).toBe(0);
    await target[Symbol.asyncDispose]();
  });

  it('listens where --listen says', async () => {
    const port = await refusedPort();
    const target = ['-n', 'shop', '--ip', '127.0.0.1', '--port', '1', '--listen'];
    await using forwarder = new Forwarder(...target, `[::1]:${port}`);
    await until(() => forwarder.stdout);
    expect(forwarder.stdout).toBe(`Waiting connection on [::1]:${port}\n`);
    await using other = new Forwarder(...target, `${port}`);
    await until(() => other.stdout);
    expect(other.stdout).toBe(`Waiting connection on 127.0.0.1:${port}\n`);
    const args = ['--api-url', agent.apiUrl, 'network-connect', ...target];
    expect(await cli([...args, `${port}`])).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('EADDRINUSE'),
    });
    for (const wrong of ['db:80', ':80', '99999', '80:']) {
      expect(await cli([...args, wrong])).toMatchObject({
        status: 2,
        stderr: expect.stringContaining(`--listen is ${wrong}`),
      });
    }
  });

  it('ends at once when there is no such network', async () => {
    const args = [
      'network-connect',
      '-n',
      'nobody',
      '--ip',
      '127.0.0.1',
      '--port',
      '1',
      '--api-url',
      agent.apiUrl,
    ];
    expect(await cli(args)).toEqual({
      status: 1,
      stdout: '',
      stderr: 'sand-agent-cli: No network is named so\n',
    });
  });
});

describe('curl', () => {
  const curl = (args: readonly string[], input?: string) =>
    cli(['curl', '-n', 'shop', '--api-url', agent.apiUrl, ...args], input === undefined ? {} : { input });

  const echo = () =>
    listening(
      createServer(async (asked, answer) => {
        const body = await textOf(asked);
        const { 'user-agent': _agent, host: _host, connection: _connection, ...headers } = asked.headers;
        answer.writeHead(asked.url === '/missing' ? 404 : 200, { 'X-Answer': 'yes' });
        answer.end(JSON.stringify({ method: asked.method, url: asked.url, headers, length: body.length }));
      }),
    );

  it('prints the body, whatever the status', async () => {
    await using target = await echo();
    const { status, stdout, stderr } = await curl([`http://127.0.0.1:${portOf(target)}/a?b=c`]);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toBe('{"method":"GET","url":"/a?b=c","headers":{"accept":"*/*"},"length":0}');
    const missing = await curl(['-i', `127.0.0.1:${portOf(target)}/missing`]);
    expect(missing.status).toBe(0);
    expect(missing.stdout).toMatch(
      /^HTTP\/1\.1 404 Not Found\r\nX-Answer: yes\r\n(.+\r\n)+\r\n{"method":"GET"/,
    );
  });

  it('sends method, headers and standard input', async () => {
    await using target = await echo();
    const url = `127.0.0.1:${portOf(target)}`;
    const args = ['-X', 'post', '-H', 'X-One: 1', '-H', 'X-Two: a', '-H', 'X-Two: b', url];
    expect(JSON.parse((await curl(args, 'body')).stdout)).toEqual({
      method: 'POST',
      url: '/',
      headers: { accept: '*/*', 'x-one': '1', 'x-two': 'a, b', 'content-length': '4' },
      length: 4,
    });
    const large = JSON.parse((await curl(['-X', 'PUT', url], 'x'.repeat(3_000_000))).stdout);
    expect(large).toMatchObject({ method: 'PUT', length: 3_000_000 });
    expect(JSON.parse((await curl([url], 'unread')).stdout)).toMatchObject({ method: 'GET', length: 0 });
  });

  it('has the answer in other forms', async () => {
    await using target = await echo();
    const url = `127.0.0.1:${portOf(target)}/missing`;
    expect(JSON.parse((await curl([url, '--json'])).stdout)).toMatchObject({
      status: 404,
      headers: { 'x-answer': 'yes' },
      body: expect.stringContaining('"method":"GET"'),
    });
    expect((await curl([url, '--output', 'yaml'])).stdout).toMatch(
      /^status: 404\nheaders:\n {2}x-answer: yes\n/,
    );
    expect((await curl([url, '--output', 'table'])).stdout).toBe('STATUS  TYPE  BYTES\n404           71\n');
  });

  it('speaks TLS, and believes any certificate with -k only', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'sand-curl-'));
    try {
      const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
      const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=db'];
      await ok(['openssl', 'req', '-x509', ...made, '-keyout', key, '-out', cert]);
      const tls = { key: readFileSync(key), cert: readFileSync(cert) };
      await using target = await listening(tlsServer(tls, (_asked, answer) => answer.end('secret')));
      const url = `https://127.0.0.1:${portOf(target)}`;
      expect(await curl(['-k', url])).toEqual({ status: 0, stdout: 'secret', stderr: '' });
      expect(await curl([url])).toMatchObject({
        status: 1,
        stdout: '',
        stderr: expect.stringContaining('certificate'),
      });
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('is 1 with one line when the target refuses', async () => {
    const port = await refusedPort();
    expect(await curl([`127.0.0.1:${port}`])).toEqual({
      status: 1,
      stdout: '',
      stderr: `sand-agent-cli: target refuses: connect ECONNREFUSED 127.0.0.1:${port}\n`,
    });
  });
});
