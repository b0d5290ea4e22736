/** A typed client of the SAND API, over TCP, TLS or a unix socket: `import { SandClient } from 'sand/client'`. */
import type * as http from 'node:http';
import type * as https from 'node:https';
import { isIP, type Socket } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import type { buildConnector, Dispatcher } from 'undici';
import { isNetworkId } from '../model/scalars.js';
import { InvalidError, UnavailableError } from './client/errors.js';
import { connectorOver, type Dial, NetworkHttpAgent, NetworkHttpsAgent } from './client/network-agent.js';
import type {
  DifferenceJson,
  EndpointFilter,
  EndpointJson,
  EndpointWish,
  GivenAway,
  HostJson,
  LeakJson,
  NetworkJson,
  NetworkWish,
  RepairJson,
  StatusJson,
} from './client/records.js';
import { type CallOptions, type ClientOptions, Transport } from './client/transport.js';

export * from './client/errors.js';
export type * from './client/records.js';
export type { CallOptions, ClientOptions };

/** The types of undici, and those that Node gives its own fetch: two releases of one library. */
type FetchDispatcher = Dispatcher & NonNullable<RequestInit['dispatcher']>;

/** A TCP target inside a network. */
export interface Target {
  /** Name or id. */
  readonly network: string;
  /** An IP address: names are not resolved inside a network. */
  readonly ip: string;
  readonly port: number;
}

const pathOf = (kind: 'networks' | 'endpoints' | 'hosts', id: string) => `/${kind}/${encodeURIComponent(id)}`;

/** One agent. Every call throws a ClientError, or its signal's reason. */
export class SandClient implements Disposable {
  readonly #options: ClientOptions;
  readonly #transport: Transport;

  /** @throws InvalidError: the URL is none. */
  constructor(options: ClientOptions) {
    this.#options = options;
    this.#transport = new Transport(options);
  }

  /** The agent's version, `v0.1.0`. */
  async version(options?: CallOptions): Promise<string> {
    return (await this.#get<{ version: string }>('/version', options)).version;
  }

  async status(options?: CallOptions): Promise<StatusJson> {
    return (await this.#get<{ status: StatusJson }>('/status', options)).status;
  }

  async networks(options?: CallOptions): Promise<NetworkJson[]> {
    return (await this.#get<{ networks: NetworkJson[] }>('/networks', options)).networks;
  }

  async network(nameOrId: string, options?: CallOptions): Promise<NetworkJson> {
    return (await this.#get<{ network: NetworkJson }>(pathOf('networks', nameOrId), options)).network;
  }

  async createNetwork(wish: NetworkWish = {}, options?: CallOptions): Promise<NetworkJson> {
    return (await this.#post<{ network: NetworkJson }>('/networks', wish, options)).network;
  }

  /** @param options `force` removes the endpoints that the agent's host has in the network first */
  async removeNetwork(nameOrId: string, options: CallOptions & { force?: boolean } = {}): Promise<void> {
    const query = options.force ? '?force=true' : '';
    await this.#transport.call('DELETE', `${pathOf('networks', nameOrId)}${query}`, options);
  }

  /** Of the whole cluster, or what the filter leaves. */
  async endpoints(filter: EndpointFilter = {}, options?: CallOptions): Promise<EndpointJson[]> {
    const query = new URLSearchParams();
    if (filter.network) query.set('network_id', await this.#networkId(filter.network, options));
    if (filter.hostname) query.set('hostname', filter.hostname);
    const path = query.size > 0 ? `/endpoints?${query}` : '/endpoints';
    return (await this.#get<{ endpoints: EndpointJson[] }>(path, options)).endpoints;
  }

  async createEndpoint(wish: EndpointWish, options?: CallOptions): Promise<EndpointJson> {
    const { network, netns, ipv4_address, mac_address } = wish;
    const activation = netns === undefined ? {} : { activate_params: { ns_handle_path: netns } };
    const body = {
      network_id: await this.#networkId(network, options),
      activate: netns !== undefined,
      ...activation,
      ipv4_address,
      mac_address,
    };
    return (await this.#post<{ endpoint: EndpointJson }>('/endpoints', body, options)).endpoint;
  }

  /** Only the agent of the endpoint's own host removes it. */
  async removeEndpoint(id: string, options?: CallOptions): Promise<void> {
    await this.#transport.call('DELETE', pathOf('endpoints', id), options);
  }

  /** Of the whole cluster; hosts of the original as far as they have endpoints. */
  async hosts(options?: CallOptions): Promise<HostJson[]> {
    return (await this.#get<{ hosts: HostJson[] }>('/hosts', options)).hosts;
  }

  async host(name: string, options?: CallOptions): Promise<HostJson> {
    return (await this.#get<{ host: HostJson }>(pathOf('hosts', name), options)).host;
  }

  /** Whether the host takes new endpoints. */
  async drainHost(name: string, wanted: 'on' | 'off', options?: CallOptions): Promise<HostJson> {
    const body = { draining: wanted === 'on' };
    return (await this.#post<{ host: HostJson }>(pathOf('hosts', name), body, options)).host;
  }

  /** Declares a host gone: its endpoints are no neighbours any more, and keep their addresses. */
  async removeHost(name: string, options?: CallOptions): Promise<HostJson> {
    const text = await this.#transport.call('DELETE', pathOf('hosts', name), options);
    return this.#parse<{ host: HostJson }>(text).host;
  }

  /** Gives away all that a host held. Its machine must be off. */
  async removeHostForGood(name: string, options?: CallOptions): Promise<GivenAway> {
    const text = await this.#transport.call('DELETE', `${pathOf('hosts', name)}?gone=true`, options);
    return this.#parse<{ given_away: GivenAway }>(text).given_away;
  }

  /** What differs in etcd's records and on the agent's host; changes nothing. */
  async verify(options?: CallOptions): Promise<DifferenceJson[]> {
    return (await this.#get<{ differences: DifferenceJson[] }>('/verify', options)).differences;
  }

  /** Mends what differs on the agent's host. */
  repair(options?: CallOptions): Promise<RepairJson> {
    return this.#post('/repair', {}, options);
  }

  /** Addresses that are taken for nobody. */
  async leaks(options?: CallOptions): Promise<LeakJson[]> {
    return (await this.#get<{ addresses: LeakJson[] }>('/gc', options)).addresses;
  }

  /** Returns them, as far as the agent's host can tell that nobody has them. */
  async collectLeaks(options?: CallOptions): Promise<LeakJson[]> {
    return (await this.#post<{ addresses: LeakJson[] }>('/gc', {}, options)).addresses;
  }

  /** The API's own description, OpenAPI 3.1. */
  openapi(options?: CallOptions): Promise<Readonly<Record<string, unknown>>> {
    return this.#get('/openapi.json', options);
  }

  /**
   * A TCP connection that begins inside a network; each side may end first. Time limit and signal end with the promise.
   * @throws UnavailableError: the target refuses or does not answer
   */
  async connect({ network, ip, port }: Target, options?: CallOptions): Promise<Socket> {
    if (isIP(ip) === 0) {
      throw new InvalidError(`ip is ${ip}; it must be an IP address such as 10.0.0.2`, { field: 'ip' });
    }
    if (!Number.isInteger(port) || port < 1 || port > 65_535) {
      throw new InvalidError(`port is ${port}; it must be a whole number from 1 to 65535`, { field: 'port' });
    }
    const query = new URLSearchParams({ ip, port: `${port}` });
    return this.#transport.tunnel(`${pathOf('networks', network)}?${query}`, options);
  }

  /** For `http.request`: URLs then name addresses inside the network. Whoever asks for it destroys it. */
  httpAgent(network: string, options?: http.AgentOptions): http.Agent {
    return new NetworkHttpAgent(this.#dial(network), options);
  }

  /** For `https.request`. */
  httpsAgent(network: string, options?: https.AgentOptions): https.Agent {
    return new NetworkHttpsAgent(this.#dial(network), options);
  }

  /** For undici: `new Agent({ connect: client.connector('shop') })`. @param tls of the targets */
  connector(network: string, tls: ConnectionOptions = {}): buildConnector.connector {
    return connectorOver(this.#dial(network), tls);
  }

  /** For `fetch`: `fetch(url, { dispatcher })`. Whoever asks for it closes it. @param tls of the targets */
  async dispatcher(network: string, tls?: ConnectionOptions): Promise<FetchDispatcher> {
    const { Agent } = await import('undici');
    return new Agent({ connect: this.connector(network, tls) }) as unknown as FetchDispatcher;
  }

  /** Ends calls and their connections; tunnels are their owners'. */
  [Symbol.dispose](): void {
    this.#transport[Symbol.dispose]();
  }

  #dial(network: string): Dial {
    return async (ip, port) => {
      const socket = await this.connect({ network, ip, port });
      // HTTP says itself where a message ends: a connection that the server ended must not be used again.
      socket.allowHalfOpen = false;
      return socket;
    };
  }

  /** Endpoints name their network by id only. */
  async #networkId(nameOrId: string, options?: CallOptions): Promise<string> {
    const id = nameOrId.toLowerCase();
    return isNetworkId(id) ? id : (await this.network(nameOrId, options)).id;
  }

  async #get<T>(path: string, options?: CallOptions): Promise<T> {
    return this.#parse(await this.#transport.call('GET', path, options));
  }

  async #post<T>(path: string, body: unknown, options?: CallOptions): Promise<T> {
    return this.#parse(await this.#transport.call('POST', path, { ...options, body }));
  }

  #parse<T>(text: string): T {
    try {
      return JSON.parse(text) as T;
    } catch (cause) {
      const { apiUrl } = this.#options;
      throw new UnavailableError(`What answers at ${apiUrl} is no sand-agent; is the API URL right?`, {
        cause,
      });
    }
  }
}
