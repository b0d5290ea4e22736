/** One change at a time per key, keys in parallel, in the order of arrival. */
export class KeyedMutex<Key> {
  readonly #tails = new Map<Key, Promise<unknown>>();

  run<T>(key: Key, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const result = before.then(work, work);
    const tail = result.catch(() => undefined);
    this.#tails.set(key, tail);
    void tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });
    return result;
  }

  isIdle(key: Key): boolean {
    return !this.#tails.has(key);
  }

  /** Resolves when nothing that was begun before is left. */
  async idle(): Promise<void> {
    await Promise.all(this.#tails.values());
  }
}
