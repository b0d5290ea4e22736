import { once } from 'node:events';
import { fstatSync } from 'node:fs';
import * as http from 'node:http';
import * as https from 'node:https';
import { isIP } from 'node:net';
import { pipeline } from 'node:stream/promises';
import type { SandClient } from '../client.js';
import { command, network, UsageError } from '../command.js';
import type { Output } from '../output.js';
import { ownVersion } from '../own-version.js';

const BODY_WITH_LENGTH_MAX = 1_048_576; // chosen: held in memory

interface Wish {
  readonly url: URL;
  readonly method: string;
  readonly headers: http.OutgoingHttpHeaders;
  readonly agent: http.Agent;
}

function parseUrl(text: string): URL {
  const whole = text.includes('://') ? text : `http://${text}`;
  const url = URL.canParse(whole) ? new URL(whole) : undefined;
  if (!url || !/^https?:$/.test(url.protocol)) {
    throw new UsageError(`URL is ${text}; it must be like http://10.0.0.2:8080/path`);
  }
  if (isIP(url.hostname.replace(/^\[(.*)\]$/, '$1')) > 0) return url;
  throw new UsageError(
    `URL is ${text}; names are not resolved inside a network: give the IP address, and the name by -H 'Host: ${url.host}'`,
  );
}

function parseHeaders(lines: readonly string[]): http.OutgoingHttpHeaders {
  const headers: Record<string, string[]> = {};
  for (const line of lines) {
    const [, name = '', value = ''] = /^([^:\s]+):\s*(.*)$/.exec(line) ?? [];
    if (name === '') throw new UsageError(`--header is ${line}; it must be like 'Accept: text/plain'`);
    headers[name] = [...(headers[name] ?? []), value];
  }
  // One value stays text: of Host and others Node takes no list.
  return Object.fromEntries(
    Object.entries(headers).map(([name, all]) => [name, all.length > 1 ? all : all[0]]),
  );
}

const agentFor = (
  url: URL,
  client: SandClient,
  { network, insecure }: { network: string; insecure: boolean },
) =>
  url.protocol === 'https:'
    ? client.httpsAgent(network, { rejectUnauthorized: !insecure })
    : client.httpAgent(network);

/** A small body is sent with its length, which every server takes; a large one as it comes. */
async function sendBody(request: http.ClientRequest): Promise<void> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin.iterator({ destroyOnReturn: false })) {
    chunks.push(chunk as Buffer);
    size += (chunk as Buffer).length;
    if (size > BODY_WITH_LENGTH_MAX) break;
  }
  if (size <= BODY_WITH_LENGTH_MAX) return void request.end(Buffer.concat(chunks));
  request.write(Buffer.concat(chunks));
  await pipeline(process.stdin, request);
}

async function send({ url, method, headers, agent }: Wish, body: boolean): Promise<http.IncomingMessage> {
  const { request: start } = url.protocol === 'https:' ? https : http;
  const request = start(url, {
    method,
    agent,
    headers: { 'User-Agent': `sand-agent-cli/${ownVersion()}`, Accept: '*/*', ...headers },
  });
  const answered = once(request, 'response') as Promise<[http.IncomingMessage]>;
  answered.catch(() => {}); // while the body is on its way; awaited below
  // A server may answer and hang up before it has read everything.
  if (body) sendBody(request).catch(error => request.destroy(error));
  else request.end();
  return (await answered)[0];
}

const headOf = (response: http.IncomingMessage) => {
  const lines = [`HTTP/${response.httpVersion} ${response.statusCode} ${response.statusMessage}`];
  for (let i = 0; i < response.rawHeaders.length; i += 2) {
    lines.push(`${response.rawHeaders[i]}: ${response.rawHeaders[i + 1]}`);
  }
  return `${lines.join('\r\n')}\r\n\r\n`;
};

async function showWhole(response: http.IncomingMessage, output: Output): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks);
  const { statusCode: status = 0, headers } = response;
  await output.show({
    value: { status, headers, body: body.toString() },
    lines: [],
    table: {
      head: ['STATUS', 'TYPE', 'BYTES'],
      rows: [[`${status}`, headers['content-type'] ?? '', `${body.length}`]],
    },
  });
}

export const curl = command({
  name: 'curl',
  summary: 'Fetch a URL from inside a network',
  operand: { name: 'url', required: true, describe: 'Such as http://10.0.0.2:8080/path' },
  flags: {
    network,
    method: { type: 'string', alias: 'X', describe: 'Default: GET' },
    header: { type: 'list', alias: 'H', describe: "Such as 'Accept: text/plain'; may be repeated" },
    insecure: { type: 'boolean', alias: 'k', describe: 'Believe any certificate of the target' },
    include: { type: 'boolean', alias: 'i', describe: 'Print the head of the response, too' },
  },
  example: ['curl -n shop -X POST http://10.1.0.2/orders < order.json', 'standard input is the body'],
  async run({ args, operand, client, output }) {
    const url = parseUrl(operand);
    const method = (args.method ?? 'GET').toUpperCase();
    const headers = parseHeaders(args.header);
    const agent = agentFor(url, client, args);
    const body = args.method !== undefined && !fstatSync(0).isCharacterDevice();
    const response = await send({ url, method, headers, agent }, body);
    if (output.format !== 'lines') await showWhole(response, output);
    else {
      if (args.include) process.stdout.write(headOf(response));
      await pipeline(response, process.stdout, { end: false });
    }
    agent.destroy();
    if (body) process.stdin.destroy();
  },
});
