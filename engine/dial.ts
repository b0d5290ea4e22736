/**
 * TCP into a network, opened inside the namespace of one of its endpoints on this host. Never from the overlay
 * namespace: the gateway's address is on every host, and the answers would stay there.
 */
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { isIPv4, Socket } from 'node:net';
import { UnavailableError } from '../model/errors.js';
import type { EndpointRecord } from '../model/records.js';
import { addressOf, type HostName, type IpAddress, type NetworkId } from '../model/scalars.js';
import type { Kernel } from '../overlay/kernel.js';
import type { Endpoints } from './endpoints.js';
import type { Mirror } from './mirror.js';
import type { NetnsEndpoints } from './netns-endpoints.js';

// Chosen by us.
const CONNECT_WITHIN_MS = 10_000; // four tries of the kernel (at 0, 1, 3 and 7 s), below the clients' 30 s
const KNOWN_FOR_MS = 1_000; // a burst of connections costs one read of etcd

export interface Target {
  readonly networkId: NetworkId;
  readonly address: IpAddress;
  readonly port: number;
}

/** The target, or its host, says no: `facts.reason` is the kernel's word for it. */
export class TargetRefuses extends UnavailableError {}
/** The target says nothing. */
export class TargetSilent extends UnavailableError {}

/** A host with active endpoints of a network. */
export interface PeerHost {
  readonly hostname: HostName;
  /** Under which its API is reached: a name or an address. */
  readonly api: string;
}

export interface DialerDependencies {
  readonly kernel: Kernel;
  readonly mirror: Mirror;
  readonly endpoints: Endpoints;
  readonly netnsEndpoints: NetnsEndpoints;
  readonly host: HostName;
}

export class Dialer {
  readonly #deps: DialerDependencies;
  readonly #peers = new Map<NetworkId, Promise<PeerHost[]>>();

  constructor(deps: DialerDependencies) {
    this.#deps = deps;
  }

  /**
   * A connected socket, each direction of which ends by itself; undefined when no endpoint of this host can serve.
   * Once the signal is aborted, it throws its reason.
   * @throws TargetRefuses, TargetSilent, KernelError
   */
  async dial(target: Target, signal: AbortSignal): Promise<Socket | undefined> {
    let unroutable: unknown;
    for (const record of this.#candidates(target)) {
      const fd = await this.#socketOf(record, target, signal);
      if (fd === undefined) continue;
      try {
        return await connect(fd, target, signal);
      } catch (error) {
        // An endpoint whose interface is down; another may be well.
        if (!(error instanceof TargetRefuses && error.facts['reason'] === 'ENETUNREACH')) throw error;
        unroutable = error;
      }
    }
    if (unroutable) throw unroutable;
    return undefined;
  }

  /** The target's own endpoint last: from any other it is reached as a neighbour would reach it. */
  #candidates({ networkId, address }: Target): EndpointRecord[] {
    const isTarget = ({ target_veth_ip }: EndpointRecord) => addressOf(target_veth_ip) === address;
    return this.#deps.mirror
      .localEndpoints(networkId)
      .filter(({ active }) => active)
      .sort((a, b) => Number(isTarget(a)) - Number(isTarget(b)));
  }

  async #socketOf(record: EndpointRecord, target: Target, signal: AbortSignal): Promise<number | undefined> {
    const { endpoints, kernel } = this.#deps;
    const path = endpoints.targetNetnsOf(record);
    const route = { from: addressOf(record.target_veth_ip), to: target.address };
    signal.throwIfAborted();
    const fd = path && isIPv4(route.from) ? await kernel.openTcpSocket(path, route) : undefined;
    if (fd !== undefined && signal.aborted) closeSync(fd);
    signal.throwIfAborted();
    return fd;
  }

  /** Other hosts with active endpoints, read from etcd, since the mirror knows no API. @throws UnavailableError */
  async peerHosts(id: NetworkId): Promise<PeerHost[]> {
    const known = await this.#peers.get(id)?.catch(() => []);
    if (known && known.length > 0) return known;
    const reading = this.#readPeers(id);
    this.#peers.set(id, reading);
    const forget = () => this.#peers.get(id) === reading && this.#peers.delete(id);
    setTimeout(forget, KNOWN_FOR_MS).unref();
    return reading;
  }

  async #readPeers(networkId: NetworkId): Promise<PeerHost[]> {
    const { netnsEndpoints, host } = this.#deps;
    const records = await netnsEndpoints.list({ networkId });
    const others = records.filter(({ active, hostname }) => active && hostname !== host);
    const found = others.map(({ hostname, api_hostname }) => ({ hostname, api: api_hostname || hostname }));
    return [...new Map(found.map(peer => [peer.hostname, peer])).values()];
  }
}

/** Takes the descriptor over: it is closed with the socket, or before this throws. */
async function connect(fd: number, target: Target, signal: AbortSignal): Promise<Socket> {
  // manualStart, which net.d.ts does not know: the socket is not read before it is connected.
  const options = { fd, manualStart: true, allowHalfOpen: true };
  const socket = new Socket(options);
  socket.on('error', () => undefined); // whoever holds the socket sees its end
  const silent = () => socket.destroy(silence(target));
  const late = setTimeout(silent, CONNECT_WITHIN_MS);
  try {
    // A literal: for a name Node would open sockets of its own, in the host's namespace.
    socket.connect({ host: target.address, port: target.port });
    await once(socket, 'connect', { signal });
    return socket;
  } catch (error) {
    socket.destroy();
    signal.throwIfAborted();
    throw refusal(target, error as NodeJS.ErrnoException);
  } finally {
    clearTimeout(late);
  }
}

const HINTS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'refuses the connection; does something listen on that port and address?',
  EHOSTUNREACH: 'is not reached: nobody in the network has the address, or its host is down',
  ENETUNREACH: 'is not reached: the interface of the endpoint on this host is down',
};

function refusal(target: Target, error: NodeJS.ErrnoException): unknown {
  const { code } = error;
  if (code === undefined) return error;
  if (code === 'ETIMEDOUT') return silence(target, error);
  const hint = HINTS[code] ?? 'is not to be connected to';
  return new TargetRefuses(`${whereOf(target)} ${hint} (${code})`, {
    ...factsOf(target),
    reason: code,
    cause: error,
  });
}

const silence = (target: Target, cause?: Error) =>
  new TargetSilent(
    `${whereOf(target)} does not answer within ${CONNECT_WITHIN_MS / 1000} s; does a firewall drop the packets?`,
    { ...factsOf(target), ...(cause && { cause }) },
  );

const whereOf = ({ address, port, networkId }: Target) => `${address}:${port} in network ${networkId}`;
const factsOf = ({ address, port, networkId }: Target) => ({ network_id: networkId, ip: address, port });
