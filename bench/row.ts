/** A row of the table as a value, what a run of it gives, and the arithmetic of both. */

/** One line of the table: our figure, beside what the machine itself needs for it in the same run. */
export interface Figure {
  readonly what: string;
  /** Behind every number: `ms`, `/s`, `MB`, `Gbit/s`; empty for a ratio. */
  readonly unit: string;
  readonly ours: Numbers;
  readonly floor?: Floor;
  /** What else was measured in the same run, in the same unit: shown behind the floor. */
  readonly beside?: readonly Floor[];
  /** Of ours to the floor where it is not that of the medians: of measurements in pairs, taken one after the other. */
  readonly pairedRatio?: number;
  /** As design.md has it. */
  readonly budget: string;
  /** Undefined where there is no budget. */
  readonly met: boolean | undefined;
  /** What a reader must know to judge it. */
  readonly note?: string;
}

export interface Floor {
  readonly what: string;
  readonly value: number;
}

/** Of many measurements, or one value that stands for all. */
export interface Numbers {
  readonly p50: number;
  readonly p95?: number;
  readonly p99?: number;
  /** Of work that was done without pauses: how much of it in a second. */
  readonly perSecond?: number;
  /** How many measurements; 1 where there is one value only. */
  readonly count: number;
}

export interface Row {
  /** For `ROW=name`. */
  readonly name: string;
  /** What is done, in one line: shown while it runs. */
  readonly what: string;
  run(say: Say): Promise<readonly Figure[]>;
}

/** Progress, for people. */
export type Say = (text: string) => void;

/** QUICK=1 measures a fifth as often, to see that a row runs: its figures are worth nothing. */
export const isQuick = (process.env['QUICK'] ?? '') !== '';
export const rounds = (count: number) => (isQuick ? Math.max(Math.ceil(count / 5), 2) : count);

/** The value below which a share of all lies: of n values in order, number ceil(share × n). */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(Math.ceil(share * sorted.length) - 1, 0)] ?? Number.NaN;
}

export const median = (values: readonly number[]) => percentile(values, 0.5);

export const numbersOf = (values: readonly number[]): Numbers => ({
  p50: median(values),
  p95: percentile(values, 0.95),
  p99: percentile(values, 0.99),
  count: values.length,
});

/** A figure without a budget. */
export const unjudged = { budget: '', met: undefined } as const;

export const single = (value: number): Numbers => ({ p50: value, count: 1 });

/** Milliseconds that a step takes. */
export async function timed(step: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await step();
  return performance.now() - startedAt;
}

export const times = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
