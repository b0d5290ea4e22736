/** A host with a real engine in a namespace of its own, and its API as clients see it. */
import type { Server } from 'node:http';
import request from 'supertest';
import { apiApp } from '../../api/app.js';
import { Kernel } from '../../overlay/kernel.js';
import { LogBook } from './log-book.js';
import type { TestNetns } from './netns.js';
import { NetworkHost } from './network-host.js';

export const VERSION = 'v0.1.0';

export interface ApiHostPlan {
  readonly hosts: readonly string[];
  readonly prefix: string;
  readonly name: string;
  readonly netns: TestNetns;
  /** Address of the namespace. */
  readonly vtep: string;
  readonly hostDeadAfterSeconds?: number;
  /** Of one that has ended: its journal and its namespaces; default: a new one. */
  readonly directory?: string;
}

export class ApiHost implements AsyncDisposable {
  readonly #plan: Omit<ApiHostPlan, 'netns'>;
  readonly #kernel: Kernel;
  #host: NetworkHost;

  private constructor(plan: Omit<ApiHostPlan, 'netns'>, host: NetworkHost, kernel: Kernel) {
    this.#plan = plan;
    this.#host = host;
    this.#kernel = kernel;
  }

  get host(): NetworkHost {
    return this.#host;
  }

  static async open({ netns, ...plan }: ApiHostPlan): Promise<ApiHost> {
    const kernel = await Kernel.start({ log: new LogBook(), hostNetns: netns.path });
    return new ApiHost(plan, await NetworkHost.open({ ...plan, kernel }), kernel);
  }

  /** The agent ends, and another begins with what it left. */
  async restart(): Promise<void> {
    await this.#host.halt();
    const { directory } = this.#host;
    this.#host = await NetworkHost.open({ ...this.#plan, kernel: this.#kernel, directory });
  }

  /** supertest over a TCP port of its own. */
  get api() {
    return request(apiApp(this.host.engine, VERSION, this.host.log) as unknown as Server);
  }

  async network(wish: object = {}): Promise<{
    readonly id: string;
    readonly vxlan_vni: number;
    readonly ns_handle_path: string;
  }> {
    const { status, body } = await this.api.post('/networks').send(wish);
    if (status !== 201) throw new Error(`POST /networks: ${status} ${JSON.stringify(body)}`);
    return body.network;
  }

  /** POST /endpoints, with a namespace to be activated in when there is one. */
  endpoint(networkId: string, netns?: string, wish: object = {}) {
    const activation = netns ? { activate: true, activate_params: { ns_handle_path: netns } } : {};
    return this.api.post('/endpoints').send({ network_id: networkId, ...activation, ...wish });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.host[Symbol.asyncDispose]();
    await this.#kernel[Symbol.asyncDispose]();
  }
}
