/**
 * Interfaces that are made as soon as their endpoint's record stands: the join that asks for one comes a moment later,
 * and waits for no more than what is left of the kernel's work.
 */
import { describeError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import type { EndpointId, IfName } from '../model/scalars.js';

const FRESH_MS = 1_000; // chosen: what was made longer ago is looked at again

export class MadeAhead {
  readonly #log: Logger;
  readonly #made = new Map<EndpointId, Promise<IfName | undefined>>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Whoever joins tries again what failed, and tells. */
  begin(id: EndpointId, making: Promise<IfName>): void {
    const made = making.catch(error => {
      this.#log.debug('interface not made ahead', { endpoint_id: id, err: describeError(error) });
      return undefined;
    });
    this.#made.set(id, made);
    void made.then(() => setTimeout(() => this.#forget(id, made), FRESH_MS).unref());
  }

  #forget(id: EndpointId, made: Promise<IfName | undefined>): void {
    if (this.#made.get(id) === made) this.#made.delete(id);
  }

  /** The interface's name, once; undefined: none was made, or too long ago to say that it is still there. */
  async take(id: EndpointId): Promise<IfName | undefined> {
    const made = this.#made.get(id);
    this.#made.delete(id);
    return made;
  }
}
