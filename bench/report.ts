/** A whole run as a value, and its form for machines: what `--json` prints and docs/benchmarks.md is written from. */
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { hasProgram } from './requirements.js';
import { type Figure, isQuick } from './row.js';

export interface Machine {
  /** Of the run's beginning, as the load is. */
  readonly date: string;
  readonly kernel: string;
  readonly node: string;
  readonly cores: number;
  readonly cpu: string;
  readonly memoryGb: number;
  readonly load: number;
  /** Without one `ip -batch` stands in for the C loop. */
  readonly compiler: boolean;
  /** Of a run with QUICK=1 no figure is worth anything. */
  readonly quick: boolean;
}

export interface Measured {
  readonly row: string;
  readonly what: string;
  readonly seconds: number;
  readonly figures: readonly Figure[];
  /** Why there are none. */
  readonly error?: string;
}

export interface Report {
  readonly machine: Machine;
  readonly rows: readonly Measured[];
}

export async function describeMachine(): Promise<Machine> {
  const [cpu] = cpus();
  const [load = ''] = readFileSync('/proc/loadavg', 'utf8').split(' ');
  return {
    date: new Date().toISOString().slice(0, 10),
    kernel: release(),
    node: process.version,
    cores: cpus().length,
    cpu: cpu?.model ?? 'unknown',
    memoryGb: Math.round(totalmem() / 2 ** 30),
    load: Number(load),
    compiler: await hasProgram('gcc'),
    quick: isQuick,
  };
}

export function describe({ date, kernel, node, cores, cpu, memoryGb, load, quick }: Machine): string {
  const machine = `${cores} cores of ${cpu}, ${memoryGb} GiB`;
  const quickly = quick ? '; QUICK: a fifth of the rounds, so no figure is worth anything' : '';
  return `${date}, Linux ${kernel}, Node ${node}, ${machine}, load ${load} at the start${quickly}`;
}

/** Ours to the floor. */
export function ratioOf({ ours, floor, pairedRatio }: Figure): number | undefined {
  if (pairedRatio !== undefined) return pairedRatio;
  return floor === undefined ? undefined : ours.p50 / floor.value;
}

/** Every figure with its ratio, and with null where it has no budget to meet. */
export function toJson({ machine, rows }: Report): string {
  const complete = rows.map(row => ({
    ...row,
    figures: row.figures.map(figure => ({
      ...figure,
      ratio: ratioOf(figure) ?? null,
      met: figure.met ?? null,
    })),
  }));
  return JSON.stringify({ machine, rows: complete }, undefined, 2);
}

/** @param text what `toJson` made */
export const fromJson = (text: string): Report => JSON.parse(text) as Report;
