/**
 * How long a thread keeps a processor at a time while others wait. Linux takes it from ordinary threads since 6.12; who asks
 * for little is given it sooner, and no more of it altogether. The agent's two threads have short turns with long rests
 * between them, beside an etcd and containers that have something to do (docs/decisions/0021).
 */
import { callSchedGetattr, callSchedSetattr } from './socket.js';

// uapi/linux/sched/types.h: struct sched_attr, its first version
const SIZE = 48;
const AT = { size: 0, policy: 4, flags: 8, runtime: 24 };
// uapi/linux/sched.h
const SCHED_OTHER = 0;
const SCHED_FLAG_RESET_ON_FORK = 1n;

const SLICE_NANOSECONDS = 100_000n; // chosen: the least that Linux takes

/**
 * Children do not inherit it. Nothing happens where the kernel knows no such thing, does not allow it, or somebody has
 * given the thread another policy: it is slower then, and no less right.
 * @param thread its id; 0: the calling one
 */
export function askForShortTurns(thread: number): void {
  const attributes = Buffer.alloc(SIZE);
  if (!callSchedGetattr(thread, attributes)) return;
  const knowsSlices = attributes.readBigUInt64LE(AT.runtime) > 0n;
  if (attributes.readUInt32LE(AT.policy) !== SCHED_OTHER || !knowsSlices) return;
  attributes.writeUInt32LE(SIZE, AT.size);
  attributes.writeBigUInt64LE(SCHED_FLAG_RESET_ON_FORK, AT.flags);
  attributes.writeBigUInt64LE(SLICE_NANOSECONDS, AT.runtime);
  callSchedSetattr(thread, attributes);
}
