/**
 * Which write of each followed key is known. The follower and our own commits bring the same writes in any order:
 * the revision decides, so that the later arrival of an older or the same write changes nothing. Of endpoints that
 * are well the revision stands beside them (`peer-table.ts`): callers hand it in as `beside`.
 */
export class Revisions {
  readonly #known = new Map<string, number>();
  /** Deletions that the follower has not passed yet: an older put of theirs may still come. */
  readonly #deleted = new Map<string, number>();
  readonly #waiting = new Set<{ revision: number; resolve: () => void }>();
  #followed = 0;

  /** Up to which the follower has delivered everything; 0 before the first snapshot. */
  get followed(): number {
    return this.#followed;
  }

  has(key: string): boolean {
    return this.#known.has(key);
  }

  /** True when a write of the key at `revision` is news. */
  isNews(key: string, revision: number, beside = 0): boolean {
    const deleted = this.#deleted.size > 0 ? (this.#deleted.get(key) ?? 0) : 0;
    return Math.max(this.#known.get(key) ?? 0, deleted, beside) < revision;
  }

  /** True when the deletion of a key that is known at `beside`, or here, is news. */
  isGone(key: string, revision: number, beside = 0): boolean {
    if (Math.max(this.#known.get(key) ?? 0, beside) > revision) return false;
    if (revision > this.#followed) this.#deleted.set(key, revision);
    return true;
  }

  set(key: string, revision: number): void {
    this.#known.set(key, revision);
  }

  /** True when the key was known here. */
  drop(key: string): boolean {
    return this.#known.delete(key);
  }

  /** Another history begins: every key is older than whatever comes, and nobody waits for revisions of before. */
  restart(): void {
    for (const key of this.#known.keys()) this.#known.set(key, 0);
    this.#deleted.clear();
    this.#followed = 0;
    for (const { resolve } of this.#waiting) resolve();
    this.#waiting.clear();
  }

  /** Known keys that a snapshot at `revision` does not hold, other than those written after it. */
  missingIn(present: ReadonlySet<string>, revision: number): string[] {
    return [...this.#known].flatMap(([key, known]) => (present.has(key) || known > revision ? [] : [key]));
  }

  /** The follower has delivered everything up to `revision`. */
  advance(revision: number): void {
    this.#followed = Math.max(this.#followed, revision);
    for (const [key, at] of this.#deleted) if (at <= revision) this.#deleted.delete(key);
    for (const waiter of this.#waiting) {
      if (waiter.revision > this.#followed) continue;
      this.#waiting.delete(waiter);
      waiter.resolve();
    }
  }

  /** Resolves when the follower has delivered everything up to `revision`. */
  reached(revision: number): Promise<void> {
    if (this.#followed >= revision) return Promise.resolve();
    return new Promise(resolve => this.#waiting.add({ revision, resolve }));
  }
}
