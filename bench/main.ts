/**
 * `make bench`: every row of the table of budgets, each beside a floor that was measured in the same run.
 * ROW=name picks one; `--json` prints the figures for machines, `--markdown` for docs/benchmarks.md, `--list` the rows.
 */
import { readFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { painter } from './drawing.js';
import { missing } from './requirements.js';
import type { Row } from './row.js';
import { ROWS } from './rows.js';
import { asJson, asMarkdown, drawTable, type Measured } from './table.js';

const flags = new Set(process.argv.slice(2));
const FLAGS = ['--json', '--markdown', '--list'];
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

async function measure(row: Row): Promise<Measured> {
  say(`${row.name}: ${row.what}`);
  try {
    return { row: row.name, figures: await row.run(text => say(`  ${text}`)) };
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    say(`  ${text}`);
    return { row: row.name, figures: [], error: text };
  }
}

function machine() {
  const [cpu] = cpus();
  const [load = ''] = readFileSync('/proc/loadavg', 'utf8').split(' ');
  return {
    date: new Date().toISOString().slice(0, 10),
    kernel: release(),
    node: process.version,
    cores: cpus().length,
    cpu: cpu?.model ?? 'unknown',
    load: Number(load),
  };
}

const describe = ({ date, kernel, node, cores, cpu, load }: ReturnType<typeof machine>) =>
  `${date}, Linux ${kernel}, Node ${node}, ${cores} cores of ${cpu}, load ${load} at the start`;

for (const flag of flags)
  if (!FLAGS.includes(flag)) refuse([`${flag} is not known; there are ${FLAGS.join(', ')}`]);
if (flags.has('--list')) {
  for (const { name, what } of ROWS) process.stdout.write(`${name.padEnd(14)}${what}\n`);
  process.exit(0);
}
const lacking = await missing(['ip', 'bridge', 'nsenter', 'unshare', 'etcd']);
if (lacking.length > 0) refuse(lacking);
const rows = chosen();
const before = machine();
const all: Measured[] = [];
for (const row of rows) all.push(await measure(row));
if (flags.has('--json')) process.stdout.write(`${asJson(all, before)}\n`);
else if (flags.has('--markdown')) process.stdout.write(`${describe(before)}\n\n${asMarkdown(all)}\n`);
else {
  const table = drawTable(all, painter(process.stdout));
  process.stdout.write(`\n${describe(before)}\n\n${table.join('\n')}\n`);
}
// A budget that is not met is a finding, not a failure; a row that could not be measured is one.
process.exit(all.some(({ error }) => error !== undefined) ? 1 : 0);
