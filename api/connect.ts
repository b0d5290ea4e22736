/** `CONNECT /networks/{id or name}?ip=&port=`: TCP into a network, from this host or through one that has an endpoint. */
import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type Target, TargetRefuses, TargetSilent } from '../engine/dial.js';
import type { Engine } from '../engine/engine.js';
import { parseHostAddress, parseRange } from '../ipam/range.js';
import { describeError, InvalidError, type SandError, UnavailableError } from '../model/errors.js';
import { type Logger, rateLimited } from '../model/log.js';
import { addressOf, type NetworkId } from '../model/scalars.js';
import { errorAnswer } from './app.js';
import { connectPath, parseConnect } from './connect-request.js';
import { type Credentials, FORWARDED_BY, type HopAnswer, type HopOptions, openThrough } from './hop.js';
import { type Refusal, refuse, refuseMalformed } from './refusal.js';
import { abort, openTunnel } from './tunnel.js';

const ANSWER_WITHIN_MS = 25_000; // chosen: below the 30 s of the command line

export interface TunnelOptions {
  /** TCP port of every agent's API. */
  readonly port: number;
  /** For calls to other agents, asked at each; undefined: without TLS. */
  credentials(): Credentials | undefined;
  readonly log: Logger;
}

export class Tunnels implements Disposable {
  readonly #engine: Engine;
  readonly #hops: HopOptions;
  readonly #log: Logger;
  /** Every client, from its request to its end; a target ends with its client. */
  readonly #clients = new Set<Socket>();

  constructor(engine: Engine, { log, port, credentials }: TunnelOptions) {
    this.#engine = engine;
    this.#hops = { hostname: engine.options.host.name, port, credentials };
    this.#log = rateLimited(log);
  }

  /** Serves the requests of a server that is CONNECT, or no HTTP. */
  attach(server: Server): void {
    server.on('connect', (request: IncomingMessage, socket: Duplex, first: Buffer) => {
      void this.#serve(request, socket as Socket, first);
    });
    server.on('clientError', (error, socket) => refuseMalformed(error, socket as Socket));
  }

  /** Throws nothing: there is nobody to catch it. */
  async #serve(request: IncomingMessage, client: Socket, first: Buffer): Promise<void> {
    this.#welcome(client, first);
    const attempt = new AbortController();
    const late = setTimeout(() => attempt.abort(tooLate(request)), ANSWER_WITHIN_MS);
    const left = () => attempt.abort(new UnavailableError('The client has left'));
    client.once('close', left);
    try {
      const answer = await this.#open(request, attempt.signal);
      if ('socket' in answer) openTunnel(client, answer.socket);
      else refuse(client, answer.refusal);
    } catch (error) {
      if (!client.destroyed) refuse(client, this.#refusal(request, error));
    } finally {
      clearTimeout(late);
      client.off('close', left);
    }
  }

  #welcome(client: Socket, first: Buffer): void {
    client.on('error', () => undefined); // whoever holds the socket sees its end
    client.allowHalfOpen = true; // TLS servers make theirs without
    client.setTimeout(0);
    if (first.length > 0) client.unshift(first);
    this.#clients.add(client);
    client.once('close', () => this.#clients.delete(client));
  }

  async #open(request: IncomingMessage, signal: AbortSignal): Promise<HopAnswer> {
    const { networks, dialer } = this.#engine;
    const wish = parseConnect(request.url ?? '');
    await this.#engine.ready();
    const { id, ip_range } = (await networks.resolve(wish.network)).record;
    const address = addressOf(parseHostAddress(parseRange(ip_range), wish.ip, 'ip'));
    const target: Target = { networkId: id, address, port: wish.port };
    const socket = await dialer.dial(target, signal);
    if (socket) return { socket };
    const by = request.headers[FORWARDED_BY];
    if (by !== undefined) throw this.#nobodyHere(id, `to which ${by} has forwarded the request`);
    const peers = await dialer.peerHosts(id);
    if (peers.length === 0) throw this.#nobody(id);
    return openThrough(peers, connectPath({ ...wish, network: id }), this.#hops, signal);
  }

  #nobodyHere(id: NetworkId, which: string): UnavailableError {
    const { hostname } = this.#hops;
    return new UnavailableError(
      `No endpoint of network ${id} is active, with its namespace there, on host ${hostname}, ${which}`,
      { network_id: id, hostname },
    );
  }

  #nobody(id: NetworkId): SandError {
    const local = this.#engine.mirror.localEndpoints(id).some(({ active }) => active);
    if (local) return this.#nobodyHere(id, 'the only one that has any');
    return new InvalidError(
      `Network ${id} has no active endpoint to connect from; start a container in it, or see sand-agent-cli endpoint-create`,
      { network_id: id },
    );
  }

  #refusal(request: IncomingMessage, error: unknown): Refusal {
    const refusal = { ...errorAnswer(error), ...statusOf(error) };
    const facts = { path: request.url, status: refusal.status, err: describeError(error) };
    if (refusal.status === 500 || refusal.status === 503) this.#log.warn('tunnel not opened', facts);
    else this.#log.debug('tunnel not opened', facts);
    return refusal;
  }

  /** Ends all tunnels at once. */
  [Symbol.dispose](): void {
    for (const client of this.#clients) abort(client);
  }
}

function statusOf(error: unknown): { readonly status?: number } {
  if (error instanceof TargetRefuses) return { status: 502 };
  return error instanceof TargetSilent ? { status: 504 } : {};
}

const tooLate = ({ url }: IncomingMessage) =>
  new TargetSilent(`CONNECT ${url} is not answered within ${ANSWER_WITHIN_MS / 1000} s; try again`);
