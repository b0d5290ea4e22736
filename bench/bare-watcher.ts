/** A watch with nothing behind it: what etcd and its client library take of the way. */
import type { StoreClient, WatchStream } from '../store/client.js';
import { monotonicMs } from './fdb-listener.js';
import { KEYS } from './lab.js';

export class BareWatcher implements Disposable {
  readonly #seen = new Map<string, (at: number) => void>();
  readonly #stream: WatchStream;

  private constructor(stream: WatchStream) {
    this.#stream = stream;
    stream.on('data', ({ events }) => {
      const at = monotonicMs();
      for (const { kv } of events ?? []) {
        const key = kv.key.toString();
        this.#seen.get(key)?.(at);
        this.#seen.delete(key);
      }
    });
    stream.on('error', () => undefined);
  }

  static async open(store: StoreClient): Promise<BareWatcher> {
    const stream = await store.openWatch();
    const watcher = new BareWatcher(stream);
    const key = Buffer.from(KEYS.followed);
    stream.write({ create_request: { key, range_end: Buffer.from(`${KEYS.followed}~`) } });
    return watcher;
  }

  /** When the next event of the key came, on the clock of `monotonicMs`. */
  next(key: string): Promise<number> {
    return new Promise(resolve => this.#seen.set(key, resolve));
  }

  [Symbol.dispose](): void {
    this.#stream.cancel();
  }
}
