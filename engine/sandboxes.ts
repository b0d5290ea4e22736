/**
 * Where a container's namespace is, written into its endpoint's record when the container has lived for a moment:
 * no container waits for it, and one that ends at once costs no transaction.
 */
import { describeError } from '../model/errors.js';
import { type Logger, rateLimited } from '../model/log.js';
import type { EndpointRecord } from '../model/records.js';
import type { EndpointId, NetnsPath } from '../model/scalars.js';
import type { Mirror } from './mirror.js';

const WRITE_AFTER_MS = 1_000; // chosen: most short-lived containers are gone by then

export interface SandboxesOptions {
  readonly mirror: Mirror;
  readonly log: Logger;
  /** Writes the record, if the endpoint still exists. */
  write(record: EndpointRecord): Promise<void>;
}

export class Sandboxes implements AsyncDisposable {
  readonly #options: SandboxesOptions;
  readonly #log: Logger;
  readonly #paths = new Map<EndpointId, NetnsPath>();
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(options: SandboxesOptions) {
    this.#options = options;
    this.#log = rateLimited(options.log);
  }

  note(endpoint: EndpointId, path: NetnsPath): void {
    this.#paths.set(endpoint, path);
    this.#schedule();
  }

  /** A path that is not written yet. */
  pathOf(endpoint: EndpointId): NetnsPath | undefined {
    return this.#paths.get(endpoint);
  }

  #schedule(): void {
    if (this.#timer || this.#stop.signal.aborted) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#writing = this.#write();
    }, WRITE_AFTER_MS);
  }

  async #write(): Promise<void> {
    for (const [endpoint, path] of [...this.#paths]) {
      if (this.#stop.signal.aborted) return;
      const record = this.#options.mirror.localEndpoint(endpoint);
      try {
        if (record && record.target_netns_path !== path) {
          await this.#options.write({ ...record, target_netns_path: path });
        }
        if (this.#paths.get(endpoint) === path) this.#paths.delete(endpoint);
      } catch (error) {
        this.#log.debug('sandbox of an endpoint not written yet', {
          endpoint_id: endpoint,
          err: describeError(error),
        });
        return this.#schedule();
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#timer);
    await this.#writing;
  }
}
