/** Processor time of a process, from /proc: what a figure costs, whoever else uses the machine. */
import { readFile } from 'node:fs/promises';

export interface CpuTime {
  readonly userMs: number;
  readonly systemMs: number;
}

const TICK_MS = 10; // USER_HZ is 100 on every architecture that Node runs on

/** All threads of the process together. */
export async function cpuTimeOf(pid: number): Promise<CpuTime> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' '); // proc(5): field 3 follows the name
  return { userMs: Number(fields[11]) * TICK_MS, systemMs: Number(fields[12]) * TICK_MS };
}

/** Of several processes, as one sum. */
export async function cpuTimeOfAll(pids: readonly number[]): Promise<CpuTime> {
  const all = await Promise.all(pids.map(cpuTimeOf));
  return {
    userMs: all.reduce((sum, { userMs }) => sum + userMs, 0),
    systemMs: all.reduce((sum, { systemMs }) => sum + systemMs, 0),
  };
}

export const cpuBetween = (before: CpuTime, after: CpuTime): CpuTime => ({
  userMs: after.userMs - before.userMs,
  systemMs: after.systemMs - before.systemMs,
});
