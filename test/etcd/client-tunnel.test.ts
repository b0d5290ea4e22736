/** Tunnels of the client, against a stand-in of the agent's side. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, get, request } from 'node:http';
import { get as getTls, createServer as tlsServer } from 'node:https';
import { createServer as tcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Agent, fetch as undiciFetch } from 'undici';
import { InvalidError, NotFoundError, SandClient, UnavailableError } from '../../cli/client.js';
import { parseIpAddress } from '../../model/scalars.js';
import { ensureCertificates } from '../../store/certificates.js';
import { countingServer, listening, portOf, textOf } from '../support/tcp-targets.js';
import { TunnelStandIn } from '../support/tunnel-stand-in.js';
import { until } from '../support/until.js';

let agent: TunnelStandIn;
let client: SandClient;

beforeEach(async () => {
  agent = await TunnelStandIn.open();
  client = new SandClient({ apiUrl: agent.apiUrl, timeoutMs: 5_000 });
});
afterEach(async () => {
  client[Symbol.dispose]();
  await agent[Symbol.asyncDispose]();
});

const ip = '127.0.0.1';
const refused = async () => {
  const server = await listening(tcpServer());
  const port = portOf(server);
  await server[Symbol.asyncDispose]();
  return port;
};

describe('connect()', () => {
  it('gives a socket of which each side may end first', async () => {
    await using target = await countingServer();
    const socket = await client.connect({ network: 'shop', ip, port: portOf(target) });
    socket.end(Buffer.alloc(3_000_000));
    expect(await textOf(socket)).toBe('hello\n3000000\n');
    expect(agent.asked).toEqual([`/networks/shop?ip=127.0.0.1&port=${portOf(target)}`]);
  });

  it('loses no byte that comes together with the head', async () => {
    agent.headWithFirstBytes = true;
    await using target = await countingServer();
    const socket = await client.connect({ network: 'shop', ip, port: portOf(target) });
    socket.end('12345');
    expect(await textOf(socket)).toBe('hello\n5\n');
  });

  it('stays open for writing after the target has ended', async () => {
    const got: Promise<string>[] = [];
    await using target = await listening(
      tcpServer({ allowHalfOpen: true }, socket => {
        got.push(textOf(socket));
        socket.end('bye');
      }),
    );
    const socket = await client.connect({ network: 'shop', ip, port: portOf(target) });
    expect(await textOf(socket)).toBe('bye');
    socket.end('still here');
    expect(await got[0]).toBe('still here');
  });

  it('has no time limit once it has begun', async () => {
    await using target = await countingServer();
    using hasty = new SandClient({ apiUrl: agent.apiUrl, timeoutMs: 300 });
    const stop = new AbortController();
    const socket = await hasty.connect(
      { network: 'shop', ip, port: portOf(target) },
      { signal: stop.signal },
    );
    stop.abort();
    const begun = Date.now();
    await until(() => Date.now() - begun > 400);
    socket.end('123');
    expect(await textOf(socket)).toBe('hello\n3\n');
  });

  it('encodes what stands in a name', async () => {
    await expect(client.connect({ network: 'a b/c?d', ip: '::1', port: 1 })).rejects.toThrow(NotFoundError);
    expect(agent.asked).toEqual(['/networks/a%20b%2Fc%3Fd?ip=%3A%3A1&port=1']);
  });

  it('tells why there is no connection', async () => {
    const port = await refused();
    const error = await client.connect({ network: 'shop', ip, port }).catch(each => each);
    expect(error).toBeInstanceOf(UnavailableError);
    expect(error).toMatchObject({
      status: 502,
      code: 'unavailable',
      message: expect.stringContaining('ECONNREFUSED'),
    });
    expect(await client.connect({ network: 'nobody', ip, port }).catch(each => each)).toMatchObject({
      name: 'NotFoundError',
      status: 404,
    });
  });

  it.each([
    [{ ip: 'db', port: 80 }, 'ip'],
    [{ ip: '', port: 80 }, 'ip'],
    [{ ip, port: 0 }, 'port'],
    [{ ip, port: 65_536 }, 'port'],
    [{ ip, port: 1.5 }, 'port'],
  ])('refuses %j before it asks', async (target, field) => {
    const error = await client.connect({ network: 'shop', ...target }).catch(each => each);
    expect(error).toBeInstanceOf(InvalidError);
    expect(error).toMatchObject({ details: { field }, status: undefined });
    expect(agent.asked).toEqual([]);
  });

  it('ends with its signal or its time while the agent says nothing', async () => {
    await using silent = await listening(tcpServer());
    const apiUrl = `http://127.0.0.1:${portOf(silent)}`;
    using patient = new SandClient({ apiUrl, timeoutMs: 0 });
    const stop = new AbortController();
    const waiting = patient.connect({ network: 'shop', ip, port: 1 }, { signal: stop.signal });
    await once(silent, 'connection');
    stop.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    using hasty = new SandClient({ apiUrl, timeoutMs: 100 });
    await expect(hasty.connect({ network: 'shop', ip, port: 1 })).rejects.toThrow('no answer within 0.1 s');
  });
});

describe('HTTP inside a network', () => {
  const echo = () =>
    listening(
      createServer((asked, answer) => answer.end(`${asked.method} ${asked.url} ${asked.headers.host}`)),
    );

  it('httpAgent() serves http.request, over one tunnel as long as both sides keep it', async () => {
    await using target = await echo();
    const inside = client.httpAgent('shop', { keepAlive: true });
    const ask = async (path: string) => {
      const outgoing = request({ host: ip, port: portOf(target), path, agent: inside }).end();
      const [response] = await once(outgoing, 'response');
      return textOf(response);
    };
    expect(await ask('/1')).toBe(`GET /1 127.0.0.1:${portOf(target)}`);
    expect(await ask('/2')).toContain('/2');
    expect(agent.asked).toHaveLength(1);
    target.closeIdleConnections();
    await until(() => Object.keys(inside.freeSockets).length === 0, { what: 'the end has come through' });
    expect(await ask('/3')).toContain('/3');
    expect(agent.asked).toHaveLength(2);
    inside.destroy();
  });

  it('an agent hands the errors of its tunnel to the request', async () => {
    const port = await refused();
    const [error] = await once(get({ host: ip, port, agent: client.httpAgent('shop') }), 'error').catch(
      each => [each],
    );
    expect(error).toMatchObject({ name: 'UnavailableError', status: 502 });
    const [named] = await once(get({ host: 'db', port, agent: client.httpAgent('shop') }), 'error').catch(
      each => [each],
    );
    expect(named).toMatchObject({ name: 'InvalidError', details: { field: 'ip' } });
  });

  it('dispatcher() serves the fetch of Node', async () => {
    await using target = await echo();
    const dispatcher = await client.dispatcher('shop');
    const url = `http://127.0.0.1:${portOf(target)}/x`;
    const answer = await fetch(url, { dispatcher, method: 'POST', body: 'text' });
    expect(await answer.text()).toBe(`POST /x 127.0.0.1:${portOf(target)}`);
    expect(agent.asked).toHaveLength(1);
    const failed = await fetch(`http://127.0.0.1:${await refused()}/`, { dispatcher }).catch(each => each);
    expect(failed.cause.message).toContain('target refuses');
    await dispatcher.close();
  });

  describe('with TLS', () => {
    let directory: string;
    beforeAll(async () => {
      directory = await mkdtemp(join(tmpdir(), 'sand-client-'));
    });
    afterAll(() => rm(directory, { recursive: true }));

    it('httpsAgent(), connector() and dispatcher() check the certificate of the target', async () => {
      const files = await ensureCertificates(directory, parseIpAddress(ip));
      const [cert, key, ca] = [files.serverCert, files.serverKey, files.ca].map(file => readFileSync(file));
      await using target = await listening(
        tlsServer({ cert, key }, (_asked, answer) => answer.end('secret')),
      );
      const url = `https://127.0.0.1:${portOf(target)}/`;
      const [response] = await once(getTls(url, { agent: client.httpsAgent('shop', { ca }) }), 'response');
      expect(await textOf(response)).toBe('secret');
      const [error] = await once(getTls(url, { agent: client.httpsAgent('shop') }), 'error');
      expect(error).toMatchObject({ code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' });

      const dispatcher = new Agent({ connect: client.connector('shop', { ca }) });
      expect(await (await undiciFetch(url, { dispatcher })).text()).toBe('secret');
      const distrustful = await client.dispatcher('shop');
      const failed = await fetch(url, { dispatcher: distrustful }).catch(each => each);
      expect(failed.cause).toMatchObject({ code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' });
      await Promise.all([dispatcher.close(), distrustful.close()]);
      expect(agent.asked).toHaveLength(4);
    });
  });
});
