/** The plugin calls of docker's commands, made by the test itself: between any two of them etcd may go away. */
import { randomUUID } from 'node:crypto';
import { type PluginAnswer, type PluginHost, pluginCall } from './agent-process.js';

const GATEWAY = { RequestAddressType: 'com.docker.network.gateway' };

export interface CalledNetwork {
  readonly name: string;
  readonly PoolID: string;
  readonly Pool: string;
  readonly Gateway: string;
  readonly NetworkID: string;
}

export interface CalledEndpoint {
  readonly NetworkID: string;
  readonly EndpointID: string;
  readonly PoolID: string;
  readonly Address: string;
}

/** The text of an error, which has to stand under both keys: each kind of driver reads another. */
export function errorOf({ status, body }: PluginAnswer): string {
  const { Err, Error: error } = body as { Err?: unknown; Error?: unknown };
  if (status === 200 && typeof Err === 'string' && Err !== '' && Err === error) return Err;
  throw new Error(`no error but ${status} ${JSON.stringify(body)}`);
}

export class DockerCalls {
  readonly #host: PluginHost;

  constructor(host: PluginHost) {
    this.#host = host;
  }

  call(method: string, body?: unknown): Promise<PluginAnswer> {
    return pluginCall(this.#host, method, body);
  }

  /** @throws {Error} with the plugin's words when it is refused. */
  async #done(answer: Promise<PluginAnswer>): Promise<Record<string, string>> {
    const { status, body } = await answer;
    const text = JSON.stringify(body);
    if (status !== 200 || text.includes('"Err"')) throw new Error(`${status} ${text}`);
    return body as Record<string, string>;
  }

  requestPool = (name: string) =>
    this.call('IpamDriver.RequestPool', {
      AddressSpace: 'sandlocal',
      Pool: '',
      SubPool: '',
      Options: { 'sand-name': name },
      V6: false,
    });

  requestAddress = (PoolID: string, Options: unknown = null) =>
    this.call('IpamDriver.RequestAddress', { PoolID, Address: '', Options });

  createNetwork = ({ name, NetworkID, Pool, Gateway }: CalledNetwork) =>
    this.call('NetworkDriver.CreateNetwork', {
      NetworkID,
      Options: { 'com.docker.network.generic': { 'sand-name': name } },
      IPv4Data: [{ AddressSpace: 'sandlocal', Pool, Gateway }],
      IPv6Data: [],
    });

  createEndpoint = ({ NetworkID, EndpointID, Address }: CalledEndpoint) =>
    this.call('NetworkDriver.CreateEndpoint', {
      NetworkID,
      EndpointID,
      Interface: { Address, AddressIPv6: '', MacAddress: '' },
      Options: {},
    });

  join = ({ NetworkID, EndpointID }: CalledEndpoint, SandboxKey = '/run/docker/netns/none') =>
    this.call('NetworkDriver.Join', {
      NetworkID,
      EndpointID,
      SandboxKey,
      Options: {},
    });

  leave = ({ NetworkID, EndpointID }: CalledEndpoint) =>
    this.call('NetworkDriver.Leave', { NetworkID, EndpointID });
  deleteEndpoint = ({ NetworkID, EndpointID }: CalledEndpoint) =>
    this.call('NetworkDriver.DeleteEndpoint', { NetworkID, EndpointID });
  releaseAddress = (PoolID: string, address: string) =>
    this.call('IpamDriver.ReleaseAddress', { PoolID, Address: address.split('/')[0] });
  releasePool = (PoolID: string) => this.call('IpamDriver.ReleasePool', { PoolID });
  deleteNetwork = (NetworkID: string) => this.call('NetworkDriver.DeleteNetwork', { NetworkID });

  /** `docker network create` up to, and without, CreateNetwork. */
  async pool(name: string): Promise<CalledNetwork> {
    const { PoolID = '', Pool = '' } = await this.#done(this.requestPool(name));
    const { Address: Gateway = '' } = await this.#done(this.requestAddress(PoolID, GATEWAY));
    return { name, PoolID, Pool, Gateway, NetworkID: randomUUID().replaceAll('-', '') };
  }

  async network(name: string): Promise<CalledNetwork> {
    const network = await this.pool(name);
    await this.#done(this.createNetwork(network));
    return network;
  }

  /** `docker run` up to, and without, CreateEndpoint. */
  async address({ PoolID, NetworkID }: CalledNetwork): Promise<CalledEndpoint> {
    const { Address = '' } = await this.#done(this.requestAddress(PoolID));
    return { PoolID, NetworkID, Address, EndpointID: randomUUID().replaceAll('-', '') };
  }

  async endpoint(network: CalledNetwork): Promise<CalledEndpoint> {
    const endpoint = await this.address(network);
    await this.#done(this.createEndpoint(endpoint));
    return endpoint;
  }

  async joined(network: CalledNetwork): Promise<CalledEndpoint> {
    const endpoint = await this.endpoint(network);
    await this.#done(this.join(endpoint));
    return endpoint;
  }

  /** `docker rm -f` of a joined one. */
  async remove(endpoint: CalledEndpoint): Promise<void> {
    await this.#done(this.leave(endpoint));
    await this.#done(this.deleteEndpoint(endpoint));
    await this.#done(this.releaseAddress(endpoint.PoolID, endpoint.Address));
  }
}
