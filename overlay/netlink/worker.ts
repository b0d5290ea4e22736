/** The one thread that speaks to the kernel: requests come as messages, in order; slow ones let others pass. */
import { parentPort, workerData } from 'node:worker_threads';
import { KernelError, SandError, toSandError } from '../../model/errors.js';
import { Overlay } from '../overlay.js';

export interface WorkerRequest {
  readonly id: number;
  readonly call: string;
  readonly args: readonly unknown[];
}
export type WorkerAnswer =
  | { readonly id: number; readonly result: unknown }
  | {
      readonly id: number;
      readonly error: { readonly name: string; readonly message: string; readonly facts: object };
    };

const overlay = new Overlay(workerData.hostNetns);

parentPort?.on('message', async ({ id, call, args }: WorkerRequest) => {
  try {
    const method = Reflect.get(overlay, call) as (...args: readonly unknown[]) => unknown;
    const result = await method.apply(overlay, [...args]);
    parentPort?.postMessage({ id, result } satisfies WorkerAnswer);
  } catch (thrown) {
    const text = thrown instanceof Error ? thrown.message : String(thrown);
    const { name, message, facts } =
      thrown instanceof SandError ? thrown : toSandError(new KernelError(text));
    parentPort?.postMessage({ id, error: { name, message, facts } } satisfies WorkerAnswer);
  }
});
