/** One of the soak's hosts: a network namespace with a real agent, and endpoints as its users see them. */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { NetnsPath } from '../../model/scalars.js';
import type { PluginHost } from '../support/agent-process.js';
import { type CheckedHost, namespaceHost } from '../support/invariants.js';
import { LocalAgent } from '../support/local-agent.js';
import { TestNetns } from '../support/netns.js';
import { type UnixResponse, unixRequest } from '../support/unix-http.js';
import { until } from '../support/until.js';

export interface SoakHostPlan {
  readonly name: string;
  readonly netns: TestNetns;
  readonly vtep: string;
  readonly directory: string;
  readonly etcd: readonly string[];
}

const PATIENCE_MS = 20_000;

export class SoakHost implements PluginHost {
  readonly #plan: SoakHostPlan;
  #agent: LocalAgent | undefined;
  #log = '';

  constructor(plan: SoakHostPlan) {
    this.#plan = plan;
  }

  get name(): string {
    return this.#plan.name;
  }

  get netns(): TestNetns {
    return this.#plan.netns;
  }

  get overlays(): string {
    return join(this.#plan.directory, 'netns');
  }

  /** The namespace of a network on this host. */
  async overlay(network: string): Promise<TestNetns> {
    const file = (await readdir(this.overlays)).find(name => name.endsWith(network));
    if (file === undefined) throw new Error(`${this.name} has no namespace of ${network}`);
    return new TestNetns(join(this.overlays, file) as NetnsPath);
  }

  get agent(): LocalAgent {
    if (!this.#agent) throw new Error(`The agent of ${this.name} was never started`);
    return this.#agent;
  }

  /** Everything that its agents have said. */
  get log(): string {
    return this.#log + (this.#agent?.log ?? '');
  }

  /** How the invariants look at it. */
  get checked(): CheckedHost {
    const { netns, vtep } = this.#plan;
    return namespaceHost(this.name, { netns: netns.path, vtep, netnsPath: this.overlays });
  }

  path = (): string => join(this.#plan.directory, 'plugin.sock');

  async start(): Promise<void> {
    const { name, netns, vtep, directory, etcd } = this.#plan;
    await mkdir(this.overlays, { recursive: true });
    await rm(this.path(), { force: true });
    this.#log += this.#agent?.log ?? '';
    const env = { PEER_IP: vtep, PEER_HOSTNAME: name, ETCD_HOSTS: etcd.join(',') };
    this.#agent = await LocalAgent.start(env, { directory, netns: netns.path, measured: true });
  }

  /** SIGKILL, and a new agent over what the old one left. */
  async killAndStart(): Promise<void> {
    this.agent.signal('SIGKILL');
    await until(() => !this.agent.running, { what: `the agent of ${this.name} is dead`, everyMs: 5 });
    await this.agent[Symbol.asyncDispose]();
    await this.start();
  }

  async stopAndStart(): Promise<void> {
    await this.agent[Symbol.asyncDispose]();
    await this.start();
  }

  api(method: 'GET' | 'POST' | 'DELETE', path: string, body?: object): Promise<UnixResponse> {
    return unixRequest({
      socket: join(this.#plan.directory, 'run', 'api.sock'),
      method,
      path,
      headers: { 'Content-Type': 'application/json' },
      body: body ? JSON.stringify(body) : '',
      timeoutMs: PATIENCE_MS,
    });
  }

  residentMegabytes(): Promise<number> {
    return this.agent.residentMegabytes();
  }

  async stop(): Promise<void> {
    await this.#agent?.[Symbol.asyncDispose]();
  }
}
