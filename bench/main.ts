/**
 * `make bench`: every row of the table of budgets, each beside a floor that was measured in the same run.
 * ROW=name picks one; `--json` prints the figures for machines, `--list` the rows.
 */
import { constants } from 'node:os';
import { painter } from './drawing.js';
import { describe, describeMachine, type Measured, toJson } from './report.js';
import { missing } from './requirements.js';
import type { Row } from './row.js';
import { ROWS } from './rows.js';
import { drawTable } from './table.js';

const flags = new Set(process.argv.slice(2));
const FLAGS = ['--json', '--list'];
const startedAt = performance.now();
// Progress is for people: standard output holds the table alone.
const progress = process.stderr;
const dim = painter(progress);

function say(text: string): void {
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1).padStart(6);
  progress.write(`${dim(`${seconds} s`, 'dim')}  ${text}\n`);
}

function refuse(lines: readonly string[]): never {
  for (const line of lines) process.stderr.write(`bench: ${line}\n`);
  process.exit(1);
}

function chosen(): readonly Row[] {
  const wanted = (process.env['ROW'] ?? '').split(',').filter(name => name !== '');
  const unknown = wanted.filter(name => !ROWS.some(row => row.name === name));
  const names = ROWS.map(({ name }) => name).join(', ');
  if (unknown.length > 0) refuse([`no row is named ${unknown.join(', ')}; there are ${names}`]);
  return wanted.length === 0 ? ROWS : ROWS.filter(({ name }) => wanted.includes(name));
}

async function measure({ name, what, run }: Row): Promise<Measured> {
  say(`${name}: ${what}`);
  const begunAt = performance.now();
  const seconds = () => Math.round((performance.now() - begunAt) / 1000);
  try {
    const figures = await run(text => say(`  ${text}`));
    return { row: name, what, seconds: seconds(), figures };
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    say(`  ${text}`);
    return { row: name, what, seconds: seconds(), figures: [], error: text };
  }
}

for (const flag of flags)
  if (!FLAGS.includes(flag)) refuse([`${flag} is not known; there are ${FLAGS.join(', ')}`]);
if (flags.has('--list')) {
  for (const { name, what } of ROWS) process.stdout.write(`${name.padEnd(17)}${what}\n`);
  process.exit(0);
}
const lacking = await missing(['ip', 'bridge', 'nsenter', 'unshare', 'etcd']);
if (lacking.length > 0) refuse(lacking);
const rows = chosen();
const machine = await describeMachine();
const all: Measured[] = [];

function print(): void {
  if (flags.has('--json')) return void process.stdout.write(`${toJson({ machine, rows: all })}\n`);
  const table = drawTable(all, painter(process.stdout));
  process.stdout.write(`\n${describe(machine)}\n\n${table.join('\n')}\n`);
}

// What was measured so far is not lost; labs are swept by their guardian.
process.once('SIGINT', () => {
  print();
  process.exit(128 + constants.signals.SIGINT);
});
for (const row of rows) all.push(await measure(row));
print();
// A budget that is not met is a finding, not a failure; a row that could not be measured is one.
process.exit(all.some(({ error }) => error !== undefined) ? 1 : 0);
