/** Several values for one key where hardly any key has two: names and VNIs of ten thousand networks. */
export class FewPerKey<K, V extends string | number> {
  /** A set only where there are two or more. */
  readonly #values = new Map<K, V | Set<V>>();

  has(key: K): boolean {
    return this.#values.has(key);
  }

  of(key: K): ReadonlySet<V> {
    const values = this.#values.get(key);
    if (values instanceof Set) return values;
    return new Set(values === undefined ? [] : [values]);
  }

  add(key: K, value: V): void {
    const values = this.#values.get(key);
    if (values instanceof Set) values.add(value);
    else this.#values.set(key, values === undefined || values === value ? value : new Set([values, value]));
  }

  /** True when the key has no value any more, and had this one. */
  remove(key: K, value: V): boolean {
    const values = this.#values.get(key);
    if (!(values instanceof Set)) return values === value && this.#values.delete(key);
    values.delete(value);
    const [last, ...more] = values;
    if (last !== undefined && more.length === 0) this.#values.set(key, last);
    return false;
  }
}
