/** Many hostile requests to one real agent with a real etcd and kernel, and what became of the agent. */
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { isPending } from '../../model/records.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { LocalAgent } from '../support/local-agent.js';
import { NetnsLab, type TestNetns } from '../support/netns.js';
import { until } from '../support/until.js';
import { hangUp, objection, send } from './door.js';
import { harvest } from './harvest.js';
import { Known } from './known.js';
import { type Mutation, mutated, mutation } from './mutations.js';
import { type Choice, type Door, type FuzzRequest, TEMPLATES } from './templates.js';

const AT_ONCE = 12;
const CHUNK = 500; // requests that are drawn together

export interface Finding {
  readonly request: FuzzRequest;
  readonly why: string;
}

export interface Report {
  readonly sent: number;
  readonly seconds: number;
  /** How many answers had which status; 0: none. */
  readonly statuses: ReadonlyMap<number, number>;
  readonly findings: readonly Finding[];
  readonly descriptors: { readonly before: number; readonly after: number };
  readonly rssMegabytes: { readonly before: number; readonly after: number };
}

interface Draw {
  readonly template: number;
  readonly choices: readonly number[];
  readonly change: Mutation;
}

const draw: fc.Arbitrary<Draw> = fc.record({
  template: fc.nat(TEMPLATES.length - 1),
  choices: fc.array(fc.nat(1_000_000), { minLength: 8, maxLength: 8 }),
  change: mutation,
});

/** An agent under fire, in a network namespace of its own. */
export class Campaign implements AsyncDisposable {
  readonly #etcd: EtcdCluster;
  readonly #lab: NetnsLab;
  readonly #agent: LocalAgent;
  readonly #known: Known;
  readonly #findings: Finding[] = [];
  readonly #statuses = new Map<number, number>();

  private constructor(etcd: EtcdCluster, lab: NetnsLab, parts: { agent: LocalAgent; known: Known }) {
    this.#etcd = etcd;
    this.#lab = lab;
    this.#agent = parts.agent;
    this.#known = parts.known;
  }

  static async open(): Promise<Campaign> {
    const lab = await NetnsLab.open();
    const [host] = await lab.hosts('fuzzed');
    const targets: TestNetns[] = [];
    for (const name of ['t1', 't2', 't3']) targets.push(await lab.netns(name));
    const etcd = await startEtcd({ namespace: `${lab.prefix}-fuzzed`, listen: '10.99.0.1' });
    const agent = await LocalAgent.start(
      { ETCD_HOSTS: etcd.hosts.join(), PEER_IP: '10.99.0.1', PEER_HOSTNAME: 'fuzzed', LOG_LEVEL: 'error' },
      { netns: host.path, measured: true },
    );
    const known = new Known(targets.map(({ path }) => path));
    return new Campaign(etcd, lab, { agent, known });
  }

  /** Sends what once was found, then `count` drawn from the seed. */
  async run(count: number, seed: number, corpus: readonly FuzzRequest[] = []): Promise<Report> {
    const began = performance.now();
    await this.#settle();
    const before = await this.#resources();
    for (const request of corpus) await this.#try(request);
    await this.#all(this.#draws(count, seed));
    await this.#cleanUp();
    await this.#settle();
    this.#judgeAgent();
    const seconds = (performance.now() - began) / 1_000;
    const after = await this.#resources();
    return {
      sent: corpus.length + count,
      seconds,
      statuses: this.#statuses,
      findings: this.#findings,
      descriptors: { before: before.descriptors, after: after.descriptors },
      rssMegabytes: { before: before.rss, after: after.rss },
    };
  }

  *#draws(count: number, seed: number): Generator<Draw> {
    for (let drawn = 0; drawn < count && this.#agent.running; drawn += CHUNK)
      yield* fc.sample(draw, { seed: seed + drawn, numRuns: Math.min(CHUNK, count - drawn) });
  }

  /** One that waits for its answer, such as a tunnel into nothing, holds up no others. */
  async #all(draws: Generator<Draw>): Promise<void> {
    const worker = async () => {
      for (let next = draws.next(); !next.done; next = draws.next()) await this.#try(this.#built(next.value));
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  }

  #built({ template: index, choices, change }: Draw): FuzzRequest {
    const template = TEMPLATES[index % TEMPLATES.length];
    if (!template) throw new Error('no templates');
    const choice = choiceOf(this.#known, choices);
    const request = { door: template.door, method: template.method, path: template.path(choice) };
    return mutated(request, template.body?.(choice), change);
  }

  async #try(request: FuzzRequest): Promise<void> {
    try {
      const answer = await send(this.#socket(request.door), request);
      this.#statuses.set(answer?.status ?? 0, (this.#statuses.get(answer?.status ?? 0) ?? 0) + 1);
      const why = objection(request, answer);
      if (why !== undefined) this.#findings.push({ request, why });
      else if (answer) harvest(this.#known, request, answer.text);
    } catch (error) {
      this.#findings.push({ request, why: (error as Error).message });
    }
  }

  #socket = (door: Door) => join(this.#agent.directory, door === 'plugin' ? 'plugin.sock' : 'run/api.sock');

  /** Docker's part first, as Docker would; what is left goes through the API. */
  async #cleanUp(): Promise<void> {
    const plugin = (method: string, body: object) =>
      this.#try({ door: 'plugin', method: 'POST', path: `/${method}`, body: JSON.stringify(body) });
    const bindings = [...(await this.#etcd.entries('/sc-net/network.bindings/')).values()].map(text =>
      JSON.parse(text),
    );
    const endpoints = [...(await this.#etcd.entries('/sc-net/network-endpoints/')).values()].map(text =>
      JSON.parse(text),
    );
    for (const { docker, id } of endpoints) {
      if (docker)
        await plugin('NetworkDriver.DeleteEndpoint', {
          NetworkID: docker.network_id,
          EndpointID: docker.endpoint_id,
        });
      else await this.#try({ door: 'api', method: 'DELETE', path: `/endpoints/${id}` });
    }
    for (const binding of bindings) {
      if (isPending(binding)) await plugin('IpamDriver.ReleasePool', { PoolID: binding.network_id });
      else await plugin('NetworkDriver.DeleteNetwork', { NetworkID: binding.docker_network_id });
    }
    const networks = [...(await this.#etcd.entries('/sc-net/network/')).values()].map(text =>
      JSON.parse(text),
    );
    for (const { id } of networks) {
      const request: FuzzRequest = { door: 'api', method: 'DELETE', path: `/networks/${id}?force=true` };
      const { status = 0, text = '' } = (await send(this.#socket('api'), request)) ?? {};
      if (status !== 204 && status !== 404)
        this.#findings.push({ request, why: `not removed: ${status} ${text}` });
    }
    await this.#nothingLeft();
  }

  /** Promised pools end by their lease of a minute. */
  async #nothingLeft(): Promise<void> {
    const left = async () => {
      const keys = (await this.#etcd.keys('/sc-net/')).filter(
        key => !/\/network\.(hosts|presence)\//.test(key),
      );
      const files = await this.#overlayFiles();
      if (keys.length + files.length > 0) throw new Error([...keys, ...files].slice(0, 10).join(', '));
      return true;
    };
    await until(left, { timeoutMs: 90_000, everyMs: 500, what: 'nothing is left behind' }).catch(error =>
      this.#findings.push({ request: { door: 'api', method: '', path: '' }, why: (error as Error).message }),
    );
  }

  async #overlayFiles(): Promise<string[]> {
    const directory = join(this.#agent.directory, 'netns');
    return existsSync(directory) ? readdir(directory) : [];
  }

  #judgeAgent(): void {
    const whole: FuzzRequest = { door: 'api', method: '', path: '' };
    if (!this.#agent.running)
      this.#findings.push({ request: whole, why: `the agent ended: ${this.#agent.log.slice(-2_000)}` });
    for (const line of this.#agent.lines('unhandled')) this.#findings.push({ request: whole, why: line });
  }

  /** What the agent does about connections that are gone is done. */
  #settle(): Promise<void> {
    hangUp();
    return sleep(1_000);
  }

  async #resources(): Promise<{ descriptors: number; rss: number }> {
    const rss = await this.#agent.residentMegabytes();
    const descriptors = (await readdir(`/proc/${this.#agent.pid}/fd`).catch(() => [])).length;
    return { descriptors, rss };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent[Symbol.asyncDispose]();
    await this.#etcd.stop();
    await this.#lab[Symbol.asyncDispose]();
  }
}

function choiceOf(known: Known, choices: readonly number[]): Choice {
  let next = 0;
  const number = (below: number) => (choices[next++ % choices.length] ?? 0) % Math.max(below, 1);
  const fresh = () => number(1_000_000).toString(16).padStart(64, 'f');
  return {
    number,
    fresh,
    known: kind => {
      const values = known.all(kind);
      return values[number(values.length)] ?? (kind === 'address' ? '10.0.0.9/24' : fresh());
    },
    netns: () => known.netns[number(known.netns.length)] ?? '',
  };
}
