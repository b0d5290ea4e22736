/**
 * Docker networks that were removed while no agent was there: Docker tells nobody twice, and such a network leaves no
 * trace but its absence. So after the start, outside any handler, Docker is asked which networks there are. Best effort:
 * nobody waits for the answer, and without one everything stays as it is.
 */
import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import type { Engine } from '../engine/engine.js';
import { describeError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import { type BindingRecord, isPending } from '../model/records.js';
import type { Bindings } from './bindings.js';

// Chosen by us.
const ANSWER_WITHIN_MS = 2_000;
/** A network that is being made is not on Docker's list yet: one has to be absent twice, this far apart. */
const APART_MS = 15_000;
const TRIES = 20; // five minutes: dockerd itself may take long to start

const DockerNetworks = z.array(z.object({ Id: z.string() }));

export interface ForgottenNetworksOptions {
  readonly engine: Engine;
  readonly bindings: Bindings;
  readonly dockerSocket: string;
  readonly log: Logger;
}

export class ForgottenNetworks implements AsyncDisposable {
  readonly #options: ForgottenNetworksOptions;
  readonly #stop = new AbortController();
  #work: Promise<void> = Promise.resolve();

  private constructor(options: ForgottenNetworksOptions) {
    this.#options = options;
  }

  /** Looks in the background, once. */
  static start(options: ForgottenNetworksOptions): ForgottenNetworks {
    const forgotten = new ForgottenNetworks(options);
    forgotten.#work = forgotten.#look().catch(error => {
      if (forgotten.#stop.signal.aborted) return;
      options.log.debug('Docker networks not compared', { err: describeError(error) });
    });
    return forgotten;
  }

  async #look(): Promise<void> {
    const { engine } = this.#options;
    await this.#persist(() => engine.ready());
    const bound = engine.networks.list().flatMap(({ record }) => engine.mirror.bindings(record.id));
    const ours = bound.filter(
      binding => binding.hostname === engine.options.host.name && !isPending(binding),
    );
    if (ours.length === 0) return;
    let absent = ours.map(({ docker_network_id }) => docker_network_id);
    for (let seen = 0; seen < 2 && absent.length > 0; seen++) {
      if (seen > 0) await this.#pause();
      const present = await this.#dockerNetworks();
      absent = absent.filter(id => !present.has(id));
    }
    for (const binding of ours) {
      if (absent.includes(binding.docker_network_id)) await this.#unbind(binding);
    }
  }

  /** Not with endpoints that outlived the start's compare: their containers run, perhaps under another dockerd. */
  async #unbind({ network_id, docker_network_id: id }: BindingRecord): Promise<void> {
    const { engine, bindings, log } = this.#options;
    const facts = { network_id, docker_id: id };
    if (engine.mirror.localEndpoints(network_id).some(({ docker }) => docker?.network_id === id)) {
      log.warn('Docker does not know a network whose containers have interfaces; left alone', facts);
      return;
    }
    log.warn('Docker network is gone, its binding too', facts);
    await bindings.unbind(id);
  }

  #pause(): Promise<unknown> {
    return sleep(APART_MS, undefined, { signal: this.#stop.signal, ref: false });
  }

  async #dockerNetworks(): Promise<ReadonlySet<string>> {
    const text = await this.#persist(() => this.#get('/networks'));
    return new Set(DockerNetworks.parse(JSON.parse(text)).map(({ Id }) => Id));
  }

  /** Until it succeeds: etcd may be away, and as a managed plugin the agent is there before Docker's API. */
  async #persist<T>(work: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await work();
      } catch (error) {
        if (tries === TRIES || this.#stop.signal.aborted) throw error;
        await this.#pause();
      }
    }
  }

  #get(path: string): Promise<string> {
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(ANSWER_WITHIN_MS)]);
    const { dockerSocket: socketPath } = this.#options;
    return new Promise((resolve, reject) => {
      const asked = request({ socketPath, path, headers: { Host: 'docker' }, signal }, async answer => {
        try {
          const chunks: Buffer[] = [];
          for await (const chunk of answer) chunks.push(chunk as Buffer);
          const text = Buffer.concat(chunks).toString();
          if (answer.statusCode === 200) resolve(text);
          else reject(new Error(`Docker answers ${answer.statusCode}: ${text.slice(0, 200)}`));
        } catch (error) {
          reject(error as Error);
        }
      });
      asked.on('error', reject).end();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#work;
  }
}
