import { setTimeout as delay } from 'node:timers/promises';

export interface UntilOptions {
  /** Default 5,000. */
  readonly timeoutMs?: number;
  /** What is waited for, in words: the head of the error's text. */
  readonly what?: string;
  /** Pause between two checks, default 20. */
  readonly everyMs?: number;
}

/**
 * Calls `check` until it gives something truthy, and gives that. A check that throws counts as "not yet".
 * @throws {Error} at the deadline, also while one check hangs; its text and its cause hold the last check's error.
 */
export async function until<T>(check: () => T | Promise<T>, options: UntilOptions = {}) {
  const { timeoutMs = 5_000, what = 'the condition', everyMs = 20 } = options;
  const timer = new AbortController();
  const expired = delay(timeoutMs, 'expired' as const, { signal: timer.signal }).catch(() => 'off' as const);
  let lastError: unknown;
  try {
    for (;;) {
      const outcome = await Promise.race([attempt(check), expired]);
      if (typeof outcome !== 'string') {
        if ('value' in outcome && outcome.value) return outcome.value as Exclude<T, Falsy>;
        lastError = 'error' in outcome ? outcome.error : undefined;
      }
      const pause = await Promise.race([delay(everyMs, 'again' as const), expired]);
      if (outcome === 'expired' || pause === 'expired') throw timeoutError(what, timeoutMs, lastError);
    }
  } finally {
    timer.abort();
  }
}

type Falsy = false | 0 | '' | null | undefined;

async function attempt<T>(check: () => T | Promise<T>): Promise<{ value: T } | { error: unknown }> {
  try {
    return { value: await check() };
  } catch (error) {
    return { error };
  }
}

function timeoutError(what: string, timeoutMs: number, lastError: unknown): Error {
  const reason = lastError instanceof Error ? lastError.message : lastError && String(lastError);
  const text = `Not within ${timeoutMs} ms: ${what}${reason ? `; last error: ${reason}` : ''}`;
  return new Error(text, lastError === undefined ? undefined : { cause: lastError });
}
