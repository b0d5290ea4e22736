/** One timer for each key: of several wishes the earliest counts. */
export class KeyedTimers<Key> implements Disposable {
  readonly #act: (key: Key) => void;
  readonly #timers = new Map<Key, { readonly at: number; readonly timer: NodeJS.Timeout }>();
  #closed = false;

  constructor(act: (key: Key) => void) {
    this.#act = act;
  }

  in(ms: number, key: Key): void {
    const at = performance.now() + ms;
    const known = this.#timers.get(key);
    if (this.#closed || (known && known.at <= at)) return;
    clearTimeout(known?.timer);
    const timer = setTimeout(() => {
      this.#timers.delete(key);
      this.#act(key);
    }, ms);
    this.#timers.set(key, { at, timer });
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    for (const { timer } of this.#timers.values()) clearTimeout(timer);
  }
}
