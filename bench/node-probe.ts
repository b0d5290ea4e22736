/**
 * Loaded into an agent by the benchmark alone (`node --import`): at SIGUSR2 it writes to the file BENCH_PROBE what the
 * event loop of the main thread and its garbage collector did since the last time.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';

/** Milliseconds. */
export interface Probed {
  /** How late timers fired. */
  readonly delayP50: number;
  readonly delayP99: number;
  readonly delayMax: number;
  /** In garbage collection, altogether. */
  readonly garbage: number;
  readonly elapsed: number;
  /** Share of the time in which the loop did something. */
  readonly utilization: number;
}

const RESOLUTION_MS = 2;

function probe(file: string): void {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  let garbage = 0;
  let since = performance.now();
  let utilization = performance.eventLoopUtilization();
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) garbage += entry.duration;
  }).observe({ entryTypes: ['gc'] });
  // The histogram holds the whole time between two firings.
  const late = (nanoseconds: number) => Math.max(nanoseconds / 1e6 - RESOLUTION_MS, 0);
  process.on('SIGUSR2', () => {
    const now = performance.now();
    const probed: Probed = {
      delayP50: late(delay.percentile(50)),
      delayP99: late(delay.percentile(99)),
      delayMax: late(delay.max),
      garbage,
      elapsed: now - since,
      utilization: performance.eventLoopUtilization(utilization).utilization,
    };
    writeFileSync(`${file}.new`, JSON.stringify(probed));
    renameSync(`${file}.new`, file);
    delay.reset();
    garbage = 0;
    since = now;
    utilization = performance.eventLoopUtilization();
  });
  writeFileSync(file, ''); // from now on the signal does not end the process
}

const { BENCH_PROBE } = process.env;
if (isMainThread && BENCH_PROBE) probe(BENCH_PROBE);
