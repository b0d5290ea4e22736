/** The one thread that speaks to the kernel: requests come as messages, in order; slow ones let others pass. */
import { parentPort, workerData } from 'node:worker_threads';
import { KernelError, SandError } from '../../model/errors.js';
import type { NetnsPath } from '../../model/scalars.js';
import { findHostRunAt } from '../host-paths.js';
import { Overlay } from '../overlay.js';
import { askForShortTurns } from './time-slice.js';

export interface WorkerRequest {
  readonly id: number;
  readonly call: string;
  readonly args: readonly unknown[];
}
/** An error as it crosses threads: a class does not. */
export interface CrossedError {
  readonly name: string;
  readonly message: string;
  readonly facts: object;
}
export type WorkerAnswer =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: CrossedError };

/** Others may have changed something in this overlay namespace. */
export interface WorkerNews {
  readonly changed: NetnsPath;
}

askForShortTurns(0);
askForShortTurns(process.pid); // the main thread has its process's number
findHostRunAt(workerData.hostRun);
const overlay = new Overlay(workerData.hostNetns, changed => {
  parentPort?.postMessage({ changed } satisfies WorkerNews);
});

parentPort?.on('message', async ({ id, call, args }: WorkerRequest) => {
  try {
    const method = Reflect.get(overlay, call) as (...args: readonly unknown[]) => unknown;
    const result = crossing(await method.apply(overlay, [...args]));
    parentPort?.postMessage({ id, result } satisfies WorkerAnswer);
  } catch (thrown) {
    parentPort?.postMessage({ id, error: crossed(thrown) } satisfies WorkerAnswer);
  }
});

/** A list of results may hold errors. */
const crossing = (result: unknown) =>
  Array.isArray(result) ? result.map(item => (item?.error ? { error: crossed(item.error) } : item)) : result;

function crossed(thrown: unknown): CrossedError {
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  const { name, message, facts } = thrown instanceof SandError ? thrown : new KernelError(text);
  return { name, message, facts };
}
