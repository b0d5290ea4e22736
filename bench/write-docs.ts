/**
 * Writes the figures into docs/benchmarks.md, between its two marks: `node dist/bench/write-docs.js FILE…`, each file
 * what `main.js --json` printed. Where two have the same row, the later one counts.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, fromJson, type Report } from './report.js';
import { ROWS } from './rows.js';
import { asMarkdown } from './table.js';

const PAGE = fileURLToPath(new URL('../../docs/benchmarks.md', import.meta.url)); // from dist/bench
const BEGIN = '<!-- figures: written by make bench-docs -->';
const END = '<!-- end of the figures -->';

function figuresOf(reports: readonly Report[]): string {
  const from = new Map(
    reports.flatMap(report => report.rows.map(row => [row.row, { report, row }] as const)),
  );
  const chosen = ROWS.flatMap(({ name }) => from.get(name) ?? []);
  const machines = reports.flatMap(report => {
    const rows = chosen.filter(each => each.report === report).map(({ row }) => row.row);
    if (rows.length === 0) return [];
    const which = rows.length === chosen.length ? '' : ` (${rows.join(', ')})`;
    return [`${describe(report.machine)}${which}.`];
  });
  return [...machines, asMarkdown(chosen.map(({ row }) => row))].join('\n\n');
}

const files = process.argv.slice(2);
const page = readFileSync(PAGE, 'utf8');
const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
if (files.length === 0 || begin < 0 || end < begin) {
  process.stderr.write(
    files.length === 0
      ? 'write-docs: say which files: node dist/bench/write-docs.js .build/bench.json\n'
      : `write-docs: ${PAGE} lacks the lines ${BEGIN} and ${END}\n`,
  );
  process.exit(1);
}
const figures = figuresOf(files.map(file => fromJson(readFileSync(file, 'utf8'))));
writeFileSync(PAGE, `${page.slice(0, begin)}${BEGIN}\n\n${figures}\n\n${page.slice(end)}`);
