/**
 * Random schedules over a cluster of two: what two hosts and their users may do at once, with kill -9 at a random step
 * on one (a real process) and a line to etcd that breaks on the other. Addresses are watched live, from the answers;
 * at the end everything is asked at once (invariants), then everything is removed and nothing may be left.
 */
import fc from 'fast-check';
import { type Container, CrashDocker } from './crash-docker.js';
import type { CrashWorld } from './crash-world.js';
import type { CalledNetwork } from './docker-calls.js';
import type { TestNetns } from './netns.js';
import { until } from './until.js';

type Host = 'ant' | 'bee';
type Deed =
  /** An endpoint in a namespace of its own, or in the one that several share. */
  | { readonly kind: 'endpoint-create'; readonly host: Host; readonly netns: 'own' | 'shared' }
  | { readonly kind: 'docker run' }
  /** The nth of what there is. */
  | { readonly kind: 'remove'; readonly nth: number };
export type Move =
  | { readonly kind: 'at once'; readonly deeds: readonly Deed[] }
  /** ant ends by SIGKILL, so many steps from now. */
  | { readonly kind: 'kill'; readonly afterSteps: number }
  | { readonly kind: 'restart bee' }
  | { readonly kind: 'cut bee' }
  | { readonly kind: 'heal bee' }
  | { readonly kind: 'blink bee' };

const host = fc.constantFrom<Host>('ant', 'bee');
const deed: fc.Arbitrary<Deed> = fc.oneof(
  fc.record({
    kind: fc.constant('endpoint-create' as const),
    host,
    netns: fc.constantFrom('own' as const, 'shared' as const),
  }),
  fc.constant({ kind: 'docker run' as const }),
  fc.record({ kind: fc.constant('remove' as const), nth: fc.nat(9) }),
);
const move: fc.Arbitrary<Move> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('at once' as const),
      deeds: fc.array(deed, { minLength: 1, maxLength: 5 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('kill' as const), afterSteps: fc.integer({ min: 1, max: 12 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.constantFrom('restart bee', 'cut bee', 'heal bee', 'blink bee').map(kind => ({ kind })),
  },
);
export const schedules = fc.array(move, { minLength: 1, maxLength: 6 });

type Thing =
  | { readonly kind: 'endpoint'; readonly host: Host; readonly id: string; readonly address: string }
  | { readonly kind: 'container'; readonly container: Container; readonly address: string };

export class Schedule {
  readonly #world: CrashWorld;
  readonly #docker: CrashDocker;
  readonly #network: CalledNetwork;
  readonly #shared: Readonly<Record<Host, TestNetns>>;
  readonly #netns: TestNetns[];
  readonly #things: Thing[] = [];
  /** Who has which address, by the answers. */
  readonly #held = new Map<string, Thing>();
  readonly #twice: string[] = [];

  private constructor(
    world: CrashWorld,
    docker: CrashDocker,
    rest: { network: CalledNetwork; shared: TestNetns[] },
  ) {
    this.#world = world;
    this.#docker = docker;
    this.#network = rest.network;
    const [ant, bee] = rest.shared as [TestNetns, TestNetns];
    this.#shared = { ant, bee };
    this.#netns = [...rest.shared];
  }

  static async begin(world: CrashWorld): Promise<Schedule> {
    const docker = new CrashDocker(world);
    const network = await docker.createNetwork('shop');
    if (!network) throw new Error('The network could not be made');
    const shared = [await world.netns(), await world.netns()];
    return new Schedule(world, docker, { network, shared });
  }

  async carryOut(moves: readonly Move[]): Promise<void> {
    for (const each of moves) await this.#move(each);
    this.#world.line.heal();
    await this.#world.disarm();
    await this.#world.revived();
    await this.#world.untilSound('all has settled');
    if (this.#twice.length > 0) throw new Error(this.#twice.join('; '));
    await this.#clear();
  }

  async #move(each: Move): Promise<void> {
    const { line, bee } = this.#world;
    switch (each.kind) {
      case 'at once':
        await Promise.all(each.deeds.map(one => this.#do(one)));
        return;
      case 'kill':
        return this.#world.arm(each.afterSteps);
      case 'restart bee':
        line.heal(); // an agent that starts without etcd is another test's
        return bee.restart();
      case 'cut bee':
        return line.cut();
      case 'heal bee':
        return line.heal();
      case 'blink bee':
        return line.blink();
    }
  }

  async #do(one: Deed): Promise<void> {
    if (one.kind === 'remove') {
      const [thing] = this.#things.splice(one.nth % Math.max(this.#things.length, 1), 1);
      if (thing) await this.#remove(thing);
    } else if (one.kind === 'docker run') {
      const container = await this.#docker.run(this.#network);
      if (container) this.#got({ kind: 'container', container, address: container.endpoint.Address });
    } else
      await this.#create(one.host, one.netns === 'own' ? await this.#namespace() : this.#shared[one.host]);
  }

  async #namespace(): Promise<TestNetns> {
    const netns = await this.#world.netns();
    this.#netns.push(netns);
    return netns;
  }

  /** What gets no answer, or a refusal, is nobody's: the end finds it in the lists. */
  async #create(at: Host, { path }: TestNetns): Promise<void> {
    const wish = {
      network_id: this.#network.PoolID,
      activate: true,
      activate_params: { ns_handle_path: path },
    };
    const { status, text } = await this.#request(at, 'POST', '/endpoints', wish);
    if (status !== 201) return;
    const { id, target_veth_ip } = JSON.parse(text).endpoint;
    this.#got({ kind: 'endpoint', host: at, id, address: target_veth_ip });
  }

  #got(thing: Thing): void {
    if (this.#held.has(thing.address)) this.#twice.push(`${thing.address} is given twice`);
    this.#held.set(thing.address, thing);
    this.#things.push(thing);
  }

  async #remove(thing: Thing): Promise<void> {
    if (this.#held.get(thing.address) === thing) this.#held.delete(thing.address);
    if (thing.kind === 'container') return this.#docker.remove(thing.container);
    await this.#request(thing.host, 'DELETE', `/endpoints/${thing.id}`);
  }

  /** Status 0: no answer. */
  async #request(at: Host, method: 'POST' | 'DELETE' | 'GET', path: string, body?: object) {
    if (at === 'ant') {
      await this.#world.revived();
      return this.#world.api(method, path, body).catch(() => ({ status: 0, text: '' }));
    }
    const { api } = this.#world.bee;
    const verb =
      method === 'POST' ? api.post(path).send(body) : method === 'GET' ? api.get(path) : api.delete(path);
    const { status, text } = await verb;
    return { status, text };
  }

  async #clear(): Promise<void> {
    for (const thing of this.#things) await this.#remove(thing);
    for (const at of ['ant', 'bee'] as const) {
      const { text } = await this.#request(at, 'GET', `/endpoints?hostname=${at}`);
      for (const { id } of JSON.parse(text).endpoints) await this.#request(at, 'DELETE', `/endpoints/${id}`);
    }
    await this.#docker.removeNetwork(this.#network);
    const { etcd, prefix } = this.#world.cluster;
    let left: readonly string[] = [];
    const empty = async () => {
      left = (await etcd.keys(prefix)).filter(key => !/\/network\.(hosts|presence)\//.test(key));
      return left.length === 0;
    };
    await until(empty, { what: 'no key is left', timeoutMs: 10_000 }).catch(error => {
      throw new Error(`These keys are left: ${left.join(', ')}`, { cause: error });
    });
    await this.#world.untilSound('all is removed');
    for (const netns of this.#netns) await this.#world.removeNetns(netns);
  }
}
