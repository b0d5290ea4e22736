/**
 * Teardowns that were accepted while etcd was away. Docker asks once and never again, so each is on disk before it
 * is answered, and is carried out when etcd is back. Until then the reconcile treats it as done.
 */
import { randomUUID } from 'node:crypto';
import { closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import * as z from 'zod';
import { describeError, NotFoundError, UnavailableError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import { scalar } from '../model/records.js';
import { parseEndpointId, parseIpAddress, parseNetworkId } from '../model/scalars.js';
import { stepped } from '../model/steps.js';

const Teardown = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('endpoint'), endpoint_id: scalar(value => parseEndpointId(value)) }),
  // By Docker's id, where ours is not known without etcd: an agent of the original may have made it.
  z.object({ kind: z.literal('docker-endpoint'), docker_endpoint_id: z.string() }),
  z.object({
    kind: z.literal('address'),
    network_id: scalar(value => parseNetworkId(value)),
    /** Docker returns it, which may have it from an agent of the original. */
    by_docker: z.boolean().optional(),
    /** When it did, in milliseconds since the epoch. */
    at: z.number().optional(),
    address: scalar(value => parseIpAddress(value)),
  }),
  z.object({ kind: z.literal('binding'), docker_network_id: z.string() }),
  // A change whose answer never came: if it was carried out, it is taken back.
  z.object({
    kind: z.literal('reservation'),
    network_id: scalar(value => parseNetworkId(value)),
    op: z.string(),
  }),
]);
export type Teardown = Readonly<z.infer<typeof Teardown>>;

const Line = z.union([z.object({ add: z.string(), what: Teardown }), z.object({ done: z.string() })]);

/** The teardown that is being carried out again, and why that failed. */
interface Replayed {
  readonly text: string;
  failure: UnavailableError | undefined;
}

export class Journal implements Disposable {
  readonly #file: number;
  readonly #log: Logger;
  readonly #open = new Map<string, Teardown>();
  readonly #away: () => boolean;
  #replayed: Replayed | undefined;

  /**
   * @param path is made when absent.
   * @param away whether etcd is known not to answer.
   * @throws a file system error that names the path.
   */
  constructor(path: string, log: Logger, away: () => boolean = () => false) {
    this.#log = log;
    this.#away = away;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    this.#file = openSync(path, 'a+', 0o600);
    const text = readFileSync(path, 'utf8');
    for (const line of text.split('\n')) if (line !== '') this.#recall(line);
    // Behind a torn line the next one would be lost with it.
    if (text !== '' && !text.endsWith('\n')) writeSync(this.#file, '\n');
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
    const id = randomUUID();
    this.#write({ add: id, what });
    this.#open.set(id, what);
  }

  /**
   * Carries a teardown out, or keeps it when etcd does not answer; while etcd is known to be away it is not even
   * asked. What is gone already is done.
   */
  async orKeep(what: Teardown, work: () => Promise<unknown>): Promise<void> {
    const text = JSON.stringify(what);
    if (this.#replayed?.text !== text && this.#away())
      return this.#keep(what, 'etcd did not answer the last request');
    try {
      await work();
    } catch (error) {
      if (error instanceof NotFoundError) return;
      if (!(error instanceof UnavailableError)) throw error;
      // Of the replay, or of Docker, which asks for the same meanwhile and must not be refused: it stays kept.
      if (this.#replayed?.text === text) this.#replayed.failure = error;
      this.#keep(what, describeError(error));
    }
  }

  #keep(what: Teardown, why: string): void {
    const text = JSON.stringify(what);
    if ([...this.#open.values()].some(kept => JSON.stringify(kept) === text)) return;
    this.add(what);
    this.#log.warn('teardown kept for when etcd is back', { kind: what.kind, why });
  }

  /**
   * Carries out what was kept, in its order.
   * @throws UnavailableError of the first that etcd does not answer, which stays with those behind it; any other error of `work`.
   */
  async replay(work: (what: Teardown) => Promise<void>): Promise<void> {
    try {
      for (const [id, what] of this.entries()) {
        const replayed: Replayed = { text: JSON.stringify(what), failure: undefined };
        this.#replayed = replayed;
        await work(what);
        if (replayed.failure) throw replayed.failure;
        this.done(id);
        this.#log.info('kept teardown carried out', { kind: what.kind });
      }
    } finally {
      this.#replayed = undefined;
    }
  }

  get isEmpty(): boolean {
    return this.#open.size === 0;
  }

  entries(): readonly (readonly [string, Teardown])[] {
    return [...this.#open];
  }

  done(id: string): void {
    this.#open.delete(id);
    if (this.#open.size > 0) this.#write({ done: id });
    else this.#clear();
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
    stepped('disk', 'journal written');
  }

  #clear(): void {
    ftruncateSync(this.#file);
    stepped('disk', 'journal cleared');
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }
}
