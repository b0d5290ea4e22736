/** The table that `make bench` prints at the end, and its form for machines. */
import type { Paint } from './drawing.js';
import type { Figure } from './row.js';

export interface Measured {
  readonly row: string;
  readonly figures: readonly Figure[];
  /** Why there are none. */
  readonly error?: string;
}

const HEAD = ['row', 'figure', 'p50', 'p95', 'p99', 'n', 'floor of the same run', 'ratio', 'budget', 'met'];
const NUMERIC = new Set([2, 3, 4, 5, 7]);

export function ratioOf({ ours, floor, pairedRatio }: Figure): number | undefined {
  if (pairedRatio !== undefined) return pairedRatio;
  return floor === undefined ? undefined : ours.p50 / floor.value;
}

const round = (value: number) => {
  if (Math.abs(value) >= 1000) return value.toFixed(0);
  return value.toFixed(Math.abs(value) >= 100 ? 1 : 2);
};
const show = (value: number | undefined, unit = '') =>
  value === undefined || Number.isNaN(value) ? '' : `${round(value)}${unit === '' ? '' : ` ${unit}`}`;

const verdict = (met: boolean | undefined) => (met === undefined ? '' : met ? 'yes' : 'NO');

function cells(row: string, figure: Figure): string[] {
  const { what, ours, unit, floor, budget, met } = figure;
  return [
    row,
    what,
    show(ours.p50, unit),
    show(ours.p95),
    show(ours.p99),
    ours.count > 1 ? String(ours.count) : '',
    floor ? `${show(floor.value, unit)} ${floor.what}` : '',
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
  return [paint(line(HEAD), 'bold'), rule, ...body, rule, ...notesOf(all)];
}

/** The table for docs/benchmarks.md. */
export function asMarkdown(all: readonly Measured[]): string {
  const line = (texts: readonly string[]) => `| ${texts.join(' | ')} |`;
  const rows = all.flatMap(({ row, figures }) => figures.map(figure => line(cells(row, figure))));
  return [
    line(HEAD),
    line(HEAD.map(() => '---')),
    ...rows,
    '',
    ...notesOf(all).map(note => `- ${note}`),
  ].join('\n');
}

const notesOf = (all: readonly Measured[]): string[] =>
  all.flatMap(({ row, figures, error }) => [
    ...(error ? [`${row} could not be measured: ${error}`] : []),
    ...new Set(figures.flatMap(({ note }) => (note ? [`${row}: ${note}`] : []))),
  ]);

/** One object a figure, with its row's name. */
export function asJson(all: readonly Measured[], machine: object): string {
  const figures = all.flatMap(({ row, figures }) =>
    figures.map(figure => ({ row, ...figure, ratio: ratioOf(figure) })),
  );
  const errors = all.flatMap(({ row, error }) => (error ? [{ row, error }] : []));
  return JSON.stringify({ machine, figures, errors }, undefined, 2);
}
