/**
 * What keeps the truth tidy: a look at everything, its repair, the return of leaked addresses; and, by itself and hour by
 * hour, the return of what this host has left taken.
 */
import { describeError } from '../model/errors.js';
import { Gc } from './gc.js';
import { nearLimits, readLimits, sizesOf, usageText } from './limits.js';
import { Verifier, type VerifierDependencies } from './verify.js';

// Chosen by us.
const EVERY_MS = 60 * 60_000; // who holds which address is read, of the whole cluster
const LIMITS_EVERY_MS = 60_000;

export interface UpkeepDependencies extends Omit<VerifierDependencies, 'isGone'> {
  /** False: another agent has this host's name. */
  serving(): boolean;
}

export class Upkeep implements AsyncDisposable {
  readonly gc: Gc;
  readonly verifier: Verifier;
  readonly #deps: UpkeepDependencies;
  readonly #timer: NodeJS.Timeout;
  readonly #limits: NodeJS.Timeout;
  /** Limits that were told to be near. */
  #near = new Set<string>();
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
    this.#limits = setInterval(() => {
      void this.checkLimits().catch(error =>
        deps.log.debug('limits not looked at', { err: describeError(error) }),
      );
    }, LIMITS_EVERY_MS);
    this.#limits.unref();
  }

  /** Warns of each limit once, until there is room again. */
  async checkLimits(): Promise<void> {
    const { mirror, log } = this.#deps;
    const near = nearLimits(sizesOf(mirror), await readLimits());
    for (const usage of near)
      if (!this.#near.has(usage.what)) log.warn('limit is near', { limit: usageText(usage) });
    this.#near = new Set(near.map(({ what }) => what));
  }

  #tidy(): void {
    const { serving, log } = this.#deps;
    if (!serving()) return;
    this.#running = this.gc.tidy().catch(error => {
      log.warn('leaked addresses not looked for', { err: describeError(error) });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    clearInterval(this.#limits);
    await this.#running;
  }
}
