/**
 * Loaded into an agent before its own code (`node --import`), in each of its threads. While the file that
 * SAND_TEST_CRASH names exists, every step is a line in `<file>.trace`, and the one whose number stands in the file is
 * the agent's last: SIGKILL, before anything else is done.
 */
import { subscribe } from 'node:diagnostics_channel';
import { appendFileSync, readFileSync } from 'node:fs';
import { threadId } from 'node:worker_threads';
import { STEPS, type Step } from '../../model/steps.js';

const file = process.env['SAND_TEST_CRASH'] ?? '';
let told = 0;

function armedFor(): number | undefined {
  try {
    return Number(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

subscribe(STEPS, message => {
  const last = armedFor();
  if (last === undefined) return;
  const { place, what } = message as Step;
  told += 1;
  // Threads append whole lines in one order; the mark finds ours again.
  const mark = `${process.pid}.${threadId}.${told}`;
  appendFileSync(`${file}.trace`, `${mark} ${place}: ${what}\n`);
  const lines = readFileSync(`${file}.trace`, 'utf8').split('\n');
  if (lines.findIndex(line => line.startsWith(`${mark} `)) + 1 === last) process.kill(process.pid, 'SIGKILL');
});
