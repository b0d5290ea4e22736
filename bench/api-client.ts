/** The HTTP API as its clients speak it, over one connection that stays open. */
import { Connection } from './connection.js';

const HEADERS = { Host: 'sand', 'Content-Type': 'application/json' };

/** Of an endpoint, what the benchmark needs. */
export interface ApiEndpoint {
  readonly id: string;
  /** `10.0.0.2/24` */
  readonly address: string;
}

export class ApiClient {
  readonly #connection: Connection;

  constructor(socket: string) {
    this.#connection = new Connection(socket, HEADERS);
  }

  async createNetwork(wish: object = {}): Promise<string> {
    return (await this.createNetworkWithVni(wish)).id;
  }

  async createNetworkWithVni(wish: object): Promise<{ readonly id: string; readonly vni: number }> {
    const { network } = await this.#call<{ network: { id: string; vxlan_vni: number } }>(
      'POST',
      '/networks',
      wish,
    );
    return { id: network.id, vni: network.vxlan_vni };
  }

  async deleteNetwork(id: string): Promise<void> {
    await this.#call('DELETE', `/networks/${id}`);
  }

  /** Creates and activates: the interface is up in the namespace when this answers. */
  async attach(networkId: string, netns: string): Promise<ApiEndpoint> {
    const { endpoint } = await this.#call<{ endpoint: { id: string; target_veth_ip: string } }>(
      'POST',
      '/endpoints',
      { network_id: networkId, activate: true, activate_params: { ns_handle_path: netns } },
    );
    return { id: endpoint.id, address: endpoint.target_veth_ip };
  }

  async deleteEndpoint(id: string): Promise<void> {
    await this.#call('DELETE', `/endpoints/${id}`);
  }

  async status(): Promise<AgentStatus> {
    return (await this.#call<{ status: AgentStatus }>('GET', '/status')).status;
  }

  /** @throws Error with the API's own text when it refuses. */
  async #call<T>(method: string, path: string, body?: object): Promise<T> {
    const text = body === undefined ? '' : JSON.stringify(body);
    const answer = await this.#connection.send(method, path, text);
    if (answer.status < 300) return (answer.text === '' ? undefined : JSON.parse(answer.text)) as T;
    throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
  }

  close(): void {
    this.#connection.close();
  }
}

/** Of GET /status, what the benchmark needs. */
export interface AgentStatus {
  /** Whether the agent has its host name. */
  readonly name: { readonly state: string };
}
