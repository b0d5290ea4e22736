/** The table that `make bench` prints at the end, and its form for docs/benchmarks.md. */
import type { Paint } from './drawing.js';
import { type Measured, ratioOf } from './report.js';
import type { Figure } from './row.js';

const HEAD = [
  ...['row', 'figure', 'p50', 'p95', 'p99', 'rate', 'n'],
  ...['floor of the same run', 'ratio', 'budget', 'met'],
];
const NUMERIC = new Set(['p50', 'p95', 'p99', 'rate', 'n', 'ratio'].map(head => HEAD.indexOf(head)));

const round = (value: number) => {
  if (Math.abs(value) >= 1000) return value.toFixed(0);
  return value.toFixed(Math.abs(value) >= 100 ? 1 : 2);
};
const show = (value: number | undefined, unit = '') =>
  value === undefined || Number.isNaN(value) ? '' : `${round(value)}${unit === '' ? '' : ` ${unit}`}`;

/** null is undefined in JSON's words. */
const verdict = (met: boolean | null | undefined) =>
  met === undefined || met === null ? '' : met ? 'yes' : 'NO';

function floorCell({ floor, beside = [], unit }: Figure): string {
  const others = beside.map(({ what, value }) => `${what} ${show(value)}`);
  const own = floor ? [`${show(floor.value, unit)} ${floor.what}`] : [];
  return [...own, ...others].join('; ');
}

function cells(row: string, figure: Figure): string[] {
  const { what, ours, unit, budget, met } = figure;
  return [
    row,
    what,
    show(ours.p50, unit),
    show(ours.p95),
    show(ours.p99),
    show(ours.perSecond, '/s'),
    ours.count > 1 ? String(ours.count) : '',
    floorCell(figure),
    show(ratioOf(figure)),
    budget,
    verdict(met),
  ];
}

/** Lines of the table, with the notes below it. */
export function drawTable(all: readonly Measured[], paint: Paint): string[] {
  const rows = all.flatMap(({ row, figures }) => figures.map(figure => cells(row, figure)));
  const widths = HEAD.map((head, column) =>
    Math.max(head.length, ...rows.map(each => (each[column] ?? '').length)),
  );
  const line = (texts: readonly string[]) =>
    texts
      .map((text, column) => {
        const width = widths[column] ?? 0;
        return NUMERIC.has(column) ? text.padStart(width) : text.padEnd(width);
      })
      .join('  ')
      .trimEnd();
  const body = rows.map(each => {
    const text = line(each);
    return each.at(-1) === 'NO' ? paint(text, 'red') : text;
  });
  const rule = widths.map(width => '─'.repeat(width)).join('──');
  const notes = all.flatMap(each => notesOf(each).map(note => `${each.row}: ${note}`));
  return [paint(line(HEAD), 'bold'), rule, ...body, rule, ...notes];
}

/** A heading, a table and its notes for each row. */
export function asMarkdown(all: readonly Measured[]): string {
  const line = (texts: readonly string[]) => `| ${texts.join(' | ')} |`;
  return all
    .map(measured => {
      const { row, what, figures } = measured;
      const rows = figures.map(figure => line(cells(row, figure).slice(1)));
      const head = HEAD.slice(1);
      const table = rows.length > 0 ? [line(head), line(head.map(() => '---')), ...rows, ''] : [];
      const notes = notesOf(measured).map(note => `- ${note}`);
      return [`### ${row}`, '', `${what}.`, '', ...table, ...notes].join('\n').trimEnd();
    })
    .join('\n\n');
}

/** Each once. */
const notesOf = ({ figures, error }: Measured): string[] => [
  ...(error ? [`could not be measured: ${error}`] : []),
  ...new Set(figures.flatMap(({ note }) => (note ? [note] : []))),
];
