/** The plugin socket as dockerd speaks to it: POST with JSON over one connection that stays open. */
import { randomBytes } from 'node:crypto';
import { Connection } from './connection.js';

const HEADERS = {
  Accept: 'application/vnd.docker.plugins.v1.2+json',
  'User-Agent': 'Go-http-client/1.1',
  Host: '',
};

export interface Endpoint {
  readonly id: string;
  /** `10.0.0.2/24`, given by CreateEndpoint. */
  readonly address: string;
  /** In the host's namespace, for Docker to move; empty before Join. */
  readonly ifName: string;
  readonly mac: string;
}

/** An id as Docker makes them. */
export const dockerId = () => randomBytes(32).toString('hex');

export class PluginClient {
  readonly #connection: Connection;

  constructor(socket: string) {
    this.#connection = new Connection(socket, HEADERS);
  }

  /** @throws Error with the plugin's own text when it refuses. */
  async call<T = unknown>(method: string, body: object | ''): Promise<T> {
    const { text } = await this.#connection.send(
      'POST',
      `/${method}`,
      body === '' ? '' : JSON.stringify(body),
    );
    const answer = JSON.parse(text) as T & { readonly Err?: string };
    if (answer.Err) throw new Error(`${method}: ${answer.Err}`);
    return answer;
  }

  /** `docker network create --driver sand --ipam-driver null --internal`; answers Docker's id of the network. */
  async createNetwork(options: Readonly<Record<string, string>> = {}): Promise<string> {
    const NetworkID = dockerId();
    await this.call('NetworkDriver.CreateNetwork', {
      NetworkID,
      Options: {
        'com.docker.network.enable_ipv6': false,
        'com.docker.network.internal': true,
        'com.docker.network.generic': options,
      },
      IPv4Data: [{ AddressSpace: 'null', Gateway: '0.0.0.0/0', Pool: '0.0.0.0/0' }],
      IPv6Data: [],
    });
    return NetworkID;
  }

  async deleteNetwork(NetworkID: string): Promise<void> {
    await this.call('NetworkDriver.DeleteNetwork', { NetworkID });
  }

  async createEndpoint(NetworkID: string, EndpointID = dockerId()): Promise<Endpoint> {
    const answer = await this.call<{ Interface: { Address: string; MacAddress: string } }>(
      'NetworkDriver.CreateEndpoint',
      {
        NetworkID,
        EndpointID,
        Interface: { Address: '', AddressIPv6: '', MacAddress: '' },
        Options: {},
      },
    );
    const { Address, MacAddress } = answer.Interface;
    return { id: EndpointID, address: Address, mac: MacAddress, ifName: '' };
  }

  /** @param sandbox the container's namespace; default: of one that is never looked for */
  async join(NetworkID: string, endpoint: Endpoint, sandbox?: string): Promise<Endpoint> {
    const SandboxKey = sandbox ?? `/run/docker/netns/${endpoint.id.slice(0, 12)}`;
    const answer = await this.call<{ InterfaceName: { SrcName: string } }>('NetworkDriver.Join', {
      NetworkID,
      EndpointID: endpoint.id,
      SandboxKey,
      Options: {},
    });
    return { ...endpoint, ifName: answer.InterfaceName.SrcName };
  }

  /** CreateEndpoint and Join: what stands between `docker run` and an interface. */
  async attach(NetworkID: string, sandbox?: string): Promise<Endpoint> {
    return this.join(NetworkID, await this.createEndpoint(NetworkID), sandbox);
  }

  async leave(NetworkID: string, { id: EndpointID }: Endpoint): Promise<void> {
    await this.call('NetworkDriver.Leave', { NetworkID, EndpointID });
  }

  async deleteEndpoint(NetworkID: string, { id: EndpointID }: Endpoint): Promise<void> {
    await this.call('NetworkDriver.DeleteEndpoint', { NetworkID, EndpointID });
  }

  close(): void {
    this.#connection.close();
  }
}
