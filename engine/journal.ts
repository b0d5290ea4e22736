/**
 * Teardowns that were accepted while etcd was away. Docker asks once and never again, so each is on disk before it
 * is answered, and is carried out when etcd is back. Until then the reconcile treats it as done.
 */
import { closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { z } from 'zod';
import { describeError, NotFoundError, UnavailableError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import { scalar } from '../model/records.js';
import { parseEndpointId, parseIpAddress, parseNetworkId } from '../model/scalars.js';

const Teardown = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('endpoint'), endpoint_id: scalar(value => parseEndpointId(value)) }),
  z.object({
    kind: z.literal('address'),
    network_id: scalar(value => parseNetworkId(value)),
    address: scalar(value => parseIpAddress(value)),
  }),
  z.object({ kind: z.literal('binding'), docker_network_id: z.string() }),
]);
export type Teardown = Readonly<z.infer<typeof Teardown>>;

const Line = z.union([z.object({ add: z.string(), what: Teardown }), z.object({ done: z.string() })]);

export class Journal implements Disposable {
  readonly #file: number;
  readonly #log: Logger;
  readonly #open = new Map<string, Teardown>();
  #next = 0;

  /** @param path is made when absent. @throws a file system error that names the path. */
  constructor(path: string, log: Logger) {
    this.#log = log;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    this.#file = openSync(path, 'a+', 0o600);
    for (const line of readFileSync(path, 'utf8').split('\n')) {
      if (line !== '') this.#recall(line);
    }
  }

  #recall(line: string): void {
    try {
      const entry = Line.parse(JSON.parse(line));
      if ('add' in entry) this.#open.set(entry.add, entry.what);
      else this.#open.delete(entry.done);
    } catch {
      // The last line of a machine that lost its power: what it announced was never answered.
      this.#log.warn('journal line ignored', { line: line.slice(0, 200) });
    }
  }

  /** On disk when it returns. */
  add(what: Teardown): void {
    const id = `${Date.now()}-${process.pid}-${this.#next++}`;
    this.#write({ add: id, what });
    this.#open.set(id, what);
  }

  /** Carries a teardown out, or keeps it when etcd does not answer. What is gone already is done. */
  async orKeep(what: Teardown, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (error instanceof NotFoundError) return;
      if (!(error instanceof UnavailableError)) throw error;
      this.add(what);
      this.#log.warn('teardown kept for when etcd is back', { kind: what.kind, err: describeError(error) });
    }
  }

  entries(): readonly (readonly [string, Teardown])[] {
    return [...this.#open];
  }

  done(id: string): void {
    this.#open.delete(id);
    if (this.#open.size > 0) this.#write({ done: id });
    else ftruncateSync(this.#file);
  }

  /** True when an endpoint is to go as soon as etcd is back. */
  removesEndpoint(id: string): boolean {
    for (const what of this.#open.values()) {
      if (what.kind === 'endpoint' && what.endpoint_id === id) return true;
    }
    return false;
  }

  #write(line: z.input<typeof Line>): void {
    writeSync(this.#file, `${JSON.stringify(line)}\n`);
    fsyncSync(this.#file);
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }
}
