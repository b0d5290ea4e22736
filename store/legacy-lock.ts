/**
 * The locks of existing agents: the oldest key of a range owns it, and waiting agents put their keys into the same
 * range. They read, change and write without comparing, so whoever shares a pool with them has to queue as they do.
 * Waiting until the range is empty never comes to a turn under contention.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { UnavailableError } from '../model/errors.js';
import type { StoreClient } from './client.js';
import { readPrefix, transact } from './transaction.js';

const LEASE_SECONDS = 20; // as existing agents choose for a pool
const LOOK_AGAIN_MS = 20; // chosen: a holder keeps the lock for some milliseconds

export interface HeldLock {
  /** Compare this key's revision in the change that the lock is for, and delete the key with it. */
  readonly key: string;
  readonly revision: number;
}

/**
 * Runs `work` when our key is the oldest in `range`; afterwards the key is gone, whatever became of the work.
 * @throws UnavailableError that names the key in front of ours, when `signal` ends the wait.
 */
export async function withLegacyLock<T>(
  store: StoreClient,
  range: string,
  signal: AbortSignal,
  work: (lock: HeldLock) => Promise<T>,
): Promise<T> {
  const lease = await store.grantLease(LEASE_SECONDS);
  try {
    const key = `${range}${BigInt(lease).toString(16)}`;
    await transact(store, { conditions: [], writes: [{ put: key, value: '', lease }] });
    return await work(await waitForTurn(store, range, key, signal));
  } finally {
    // The lease ends by itself when this call fails too.
    await store.revokeLease(lease).catch(() => undefined);
  }
}

async function waitForTurn(
  store: StoreClient,
  range: string,
  key: string,
  signal: AbortSignal,
): Promise<HeldLock> {
  for (;;) {
    const queue = await readPrefix(store, range);
    const [oldest] = queue.sort((a, b) => a.createRevision - b.createRevision);
    if (oldest?.key === key) return { key, revision: oldest.modRevision };
    if (!queue.some(entry => entry.key === key)) {
      throw new UnavailableError(`Our place in the queue of lock ${range} expired; try again`, {
        lock: range,
      });
    }
    if (signal.aborted && oldest) {
      throw new UnavailableError(
        `Lock ${range} is held by the key ${oldest.key}; it goes with its lease, or delete it if its agent is dead`,
        { lock: range, holder: oldest.key },
      );
    }
    await sleep(LOOK_AGAIN_MS * (0.5 + Math.random()));
  }
}
