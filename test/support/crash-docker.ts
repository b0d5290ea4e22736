/**
 * What dockerd does with its plugin, call by call, also when one dies: a connection that drops after the request was
 * read is tried again with an empty body; then the command has failed, and of what was done before only some calls'
 * undoing is asked for. Teardown goes on past every failure, and nothing of it is repeated. As measured on 20.10.
 */
import type { PluginAnswer } from './agent-process.js';
import type { CrashWorld } from './crash-world.js';
import { type CalledEndpoint, type CalledNetwork, DockerCalls } from './docker-calls.js';
import type { TestNetns } from './netns.js';

type Called = Record<string, string> & { readonly InterfaceName?: { readonly SrcName: string } };

export interface Container {
  readonly endpoint: CalledEndpoint;
  readonly sandbox: TestNetns;
}

export class CrashDocker {
  readonly #world: CrashWorld;
  readonly #calls: DockerCalls;
  readonly #fate: 'survives' | 'dies with the agent';
  #dead = false;

  constructor(world: CrashWorld, fate: 'survives' | 'dies with the agent' = 'survives') {
    this.#world = world;
    this.#calls = new DockerCalls(world);
    this.#fate = fate;
  }

  /** `docker network create`. Undefined: it has failed. */
  async createNetwork(name: string): Promise<CalledNetwork | undefined> {
    const pool = await this.#try(() => this.#calls.requestPool(name));
    if (!pool) return undefined;
    const { PoolID = '', Pool = '' } = pool;
    const gateway = await this.#try(() =>
      this.#calls.requestAddress(PoolID, { RequestAddressType: 'com.docker.network.gateway' }),
    );
    if (!gateway) {
      await this.#try(() => this.#calls.releasePool(PoolID));
      return undefined;
    }
    const { Address: Gateway = '' } = gateway;
    const network = { name, PoolID, Pool, Gateway, NetworkID: `n${crypto.randomUUID().replaceAll('-', '')}` };
    if (await this.#try(() => this.#calls.createNetwork(network))) return network;
    await this.#try(() => this.#calls.releaseAddress(PoolID, Gateway));
    await this.#try(() => this.#calls.releasePool(PoolID));
    return undefined;
  }

  /** `docker network rm`. */
  async removeNetwork({ PoolID, Gateway, NetworkID }: CalledNetwork): Promise<void> {
    await this.#try(() => this.#calls.releaseAddress(PoolID, Gateway));
    await this.#try(() => this.#calls.releasePool(PoolID));
    await this.#try(() => this.#calls.deleteNetwork(NetworkID));
  }

  /** `docker run` up to the container's start. Undefined: it has failed. */
  async run({ PoolID, NetworkID }: CalledNetwork): Promise<Container | undefined> {
    const asked = await this.#try(() => this.#calls.requestAddress(PoolID));
    if (!asked) return undefined;
    const endpoint = {
      PoolID,
      NetworkID,
      Address: asked['Address'] ?? '',
      EndpointID: `e${crypto.randomUUID().replaceAll('-', '')}`,
    };
    const release = () => this.#try(() => this.#calls.releaseAddress(PoolID, endpoint.Address));
    if (!(await this.#try(() => this.#calls.createEndpoint(endpoint)))) {
      await release();
      return undefined;
    }
    const sandbox = await this.#world.netns();
    const joined = await this.#try(() => this.#calls.join(endpoint, sandbox.path));
    if (!joined?.InterfaceName) {
      await this.#try(() => this.#calls.deleteEndpoint(endpoint));
      await release();
      await this.#world.removeNetns(sandbox);
      return undefined;
    }
    await this.#world.move(joined.InterfaceName.SrcName, sandbox);
    return { endpoint, sandbox };
  }

  /** `docker rm --force`. The sandbox goes at the end, with what is still in it. */
  async remove({ endpoint, sandbox }: Container): Promise<void> {
    await this.#try(() => this.#calls.leave(endpoint));
    await this.#try(() => this.#calls.deleteEndpoint(endpoint));
    await this.#try(() => this.#calls.releaseAddress(endpoint.PoolID, endpoint.Address));
    await this.#world.removeNetns(sandbox);
  }

  /** One call. Undefined: it has failed for Docker. A refused connection is dialled again for 15 s. */
  async #try(call: () => Promise<PluginAnswer>): Promise<Called | undefined> {
    if (this.#dead) return undefined;
    await this.#world.revived();
    try {
      return answerOf(await call());
    } catch {
      this.#dead = this.#fate === 'dies with the agent';
      if (this.#dead) return undefined;
      await this.#world.revived();
      // The method does not matter: without its body no call of Docker's can mean anything.
      const again = await this.#calls.call('NetworkDriver.CreateEndpoint', '');
      return answerOf(again);
    }
  }
}

function answerOf({ status, body }: PluginAnswer): Called | undefined {
  const refused = status !== 200 || JSON.stringify(body).includes('"Err"');
  return refused ? undefined : (body as Called);
}
