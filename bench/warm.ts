/**
 * What is done before anything is counted, and between two calls: V8 compiles what runs often while it runs, and a
 * processor that has slept is slower for everybody (docs/decisions/0021).
 */
import { isQuick, median } from './row.js';

/** Calls of an agent that has just started. */
export const FRESH = isQuick ? 6 : 30;
/** Of each operation after these, by the agent and by the floor. */
export const WARM_UP = isQuick ? 1 : 3_000;
/** Until the kernel has removed the interfaces that were made for that. */
export const REMOVED_MS = 2_000;
/** The kernel removes links for 16 to 56 ms after the answer, and others wait for it. */
export const PAUSE_MS = 80;

/** A figure's note: the median of an agent that has compiled nothing yet. */
export const byFresh = (what: string, values: readonly number[]) =>
  `${what}, the first ${values.length} of a fresh agent: ${median(values).toFixed(2)} ms`;
