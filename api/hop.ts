/** On to the agent of a host that has an endpoint of the network: a CONNECT to its API. */
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { connect as netConnect, type Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import * as z from 'zod';
import type { PeerHost } from '../engine/dial.js';
import { UnavailableError } from '../model/errors.js';
import type { HostName } from '../model/scalars.js';
import type { Refusal } from './refusal.js';

// Chosen by us: a handful of dead hosts may be met, and the next still be asked, within the clients' 30 s.
const REACH_WITHIN_MS = 2_500;
const ANSWER_WITHIN_MS = 15_000; // the other agent gives its target 10 s
const REFUSAL_MAX_BYTES = 65_536; // longer is no refusal of an agent

/** Marks a request that another agent sent on, by its host: it goes no further. */
export const FORWARDED_BY = 'x-sand-forwarded-by';

/** What the target says, through the other agent; any other status is that agent's own trouble. */
const DEFINITE = [400, 404, 502, 504];

export interface Credentials {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
  readonly ca: string | Buffer;
}

export interface HopOptions {
  /** This host, as it names itself to the others. */
  readonly hostname: HostName;
  /** TCP port of every agent's API. */
  readonly port: number;
  /** Asked at each hop; undefined: the cluster's APIs are without TLS. */
  credentials(): Credentials | undefined;
}

export type HopAnswer = { readonly socket: Socket } | { readonly refusal: Refusal };

/** Asks the hosts, in an order by chance, until one opens the connection or says why the target does not take it. */
export async function openThrough(
  peers: readonly PeerHost[],
  path: string,
  options: HopOptions,
  signal: AbortSignal,
): Promise<HopAnswer> {
  const failures: string[] = [];
  for (const peer of shuffled(peers)) {
    try {
      const answer = await hop(peer, path, options, signal);
      if ('socket' in answer || DEFINITE.includes(answer.refusal.status)) return answer;
      failures.push(`${peer.hostname}: ${answer.refusal.body.error}`);
    } catch (error) {
      signal.throwIfAborted();
      failures.push(`${peer.hostname} at ${peer.api}: ${(error as Error).message}`);
    }
  }
  throw new UnavailableError(
    `None of the hosts that have endpoints of the network opens the connection (${failures.join('; ')}); check their agents, API_HOSTNAME and HTTP_PORT`,
    { hosts: peers.map(({ hostname }) => hostname) },
  );
}

const shuffled = <T>(items: readonly T[]): T[] =>
  items
    .map(item => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);

async function hop(peer: PeerHost, path: string, options: HopOptions, signal: AbortSignal) {
  const { port, hostname } = options;
  const to = peerRequestOptions(peer.api, port, options.credentials());
  const socket = 'cert' in to ? tlsConnect(to) : netConnect(to);
  socket.on('error', () => undefined); // whoever holds the socket sees its end
  const reached = once(socket, 'cert' in to ? 'secureConnect' : 'connect');
  await within(REACH_WITHIN_MS, socket, signal, reached);
  const asked = ask(socket, path, {
    Host: `${to.host.includes(':') ? `[${to.host}]` : to.host}:${port}`,
    [FORWARDED_BY]: hostname,
  });
  return within(ANSWER_WITHIN_MS, socket, signal, asked);
}

/** How another agent's API is dialled; with credentials by TLS, which checks that it is the host that was meant. */
export function peerRequestOptions(api: string, port: number, tls: Credentials | undefined) {
  const host = api.replace(/^\[(.*)\]$/, '$1');
  return { host, port, allowHalfOpen: true, noDelay: true, ...tls };
}

/** The work ends with its socket, and the socket with a late or failed work. */
async function within<T>(ms: number, socket: Socket, signal: AbortSignal, work: Promise<T>): Promise<T> {
  const late = setTimeout(() => socket.destroy(new Error(`no answer within ${ms / 1000} s`)), ms);
  const aborted = () => socket.destroy(signal.reason);
  signal.addEventListener('abort', aborted);
  if (signal.aborted) aborted();
  try {
    return await work;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(late);
    signal.removeEventListener('abort', aborted);
  }
}

/** Node hands the socket over for every answer to a CONNECT: the text of a refusal is still in it. */
async function ask(socket: Socket, path: string, headers: Readonly<Record<string, string>>) {
  const request = httpRequest({ method: 'CONNECT', path, headers, createConnection: () => socket });
  request.on('error', () => undefined); // also after what `once` waits for
  request.end();
  const [response, , first] = (await once(request, 'connect')) as [IncomingMessage, Socket, Buffer];
  const { statusCode: status = 0 } = response;
  if (first.length > 0) socket.unshift(first);
  if (status === 200) return { socket };
  return { refusal: { status, body: parseRefusal(status, await textOf(response, socket)) } };
}

async function textOf({ headers }: IncomingMessage, socket: Socket): Promise<string> {
  const length = Number(headers['content-length'] ?? REFUSAL_MAX_BYTES);
  if (!(length <= REFUSAL_MAX_BYTES)) throw new Error('its answer is too long for an agent');
  const chunks: Buffer[] = [];
  let missing = length;
  if (missing > 0) {
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      missing -= chunk.length;
      if (missing <= 0) break;
    }
  }
  socket.destroy();
  return Buffer.concat(chunks).toString('utf8', 0, length);
}

const ErrorBody = z.looseObject({ error: z.string() });

function parseRefusal(status: number, text: string) {
  try {
    return ErrorBody.parse(JSON.parse(text));
  } catch (cause) {
    throw new Error(`it answers ${status}, and not as an agent`, { cause });
  }
}
