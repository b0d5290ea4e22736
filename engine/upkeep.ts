/**
 * What keeps the truth tidy: a look at everything, its repair, the return of leaked addresses; and, by itself and hour by
 * hour, the return of what this host has left taken.
 */
import { describeError } from '../model/errors.js';
import { Gc } from './gc.js';
import { Verifier, type VerifierDependencies } from './verify.js';

const EVERY_MS = 60 * 60_000; // chosen: the truth is read as a whole

export interface UpkeepDependencies extends Omit<VerifierDependencies, 'isGone'> {
  /** False: another agent has this host's name. */
  serving(): boolean;
}

export class Upkeep implements AsyncDisposable {
  readonly gc: Gc;
  readonly verifier: Verifier;
  readonly #deps: UpkeepDependencies;
  readonly #timer: NodeJS.Timeout;
  #running: Promise<unknown> = Promise.resolve();

  constructor(deps: UpkeepDependencies) {
    this.#deps = deps;
    const { hosts } = deps.mirror;
    // Neither writes anything any more: every transaction compares its host's presence.
    const isGone: VerifierDependencies['isGone'] = name => ['gone', 'removed'].includes(hosts.state(name));
    this.gc = new Gc({ ...deps, isGone });
    this.verifier = new Verifier({ ...deps, isGone });
    // Not all agents of a cluster at once.
    this.#timer = setInterval(() => this.#tidy(), EVERY_MS * (0.75 + Math.random() / 2));
    this.#timer.unref();
  }

  #tidy(): void {
    const { serving, log } = this.#deps;
    if (!serving()) return;
    this.#running = this.gc.collect('own-host').catch(error => {
      log.warn('leaked addresses not looked for', { err: describeError(error) });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#running;
  }
}
