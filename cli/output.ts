/** What a command found, in the form that was asked for. */
export const FORMATS = ['table', 'json', 'yaml'] as const;
/** `lines` is what scripts of old parse. */
export type Format = 'lines' | (typeof FORMATS)[number];

const COLOURS = { green: 32, yellow: 33, red: 31, bold: 1 } as const;
export type Colour = keyof typeof COLOURS;

/** A cell may bear a colour. */
export type Cell = string | readonly [text: string, colour: Colour];

export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
}

export interface Findings {
  /** For json and yaml: the API's objects. */
  readonly value: unknown;
  readonly lines: readonly string[];
  readonly table: Table;
}

/** Only on a terminal that can, and not against the user's word. @see https://no-color.org */
export const colourOn = (stream: { isTTY?: boolean }, env: NodeJS.ProcessEnv) =>
  stream.isTTY === true && !env['NO_COLOR'] && env['TERM'] !== 'dumb';

export class Output {
  constructor(
    readonly format: Format,
    readonly colour: boolean,
  ) {}

  async show({ value, lines, table }: Findings): Promise<void> {
    if (this.format === 'json') return print([JSON.stringify(value, undefined, 2)]);
    if (this.format === 'table') return print(this.#align(table));
    if (this.format === 'lines') return print(lines);
    const { stringify } = await import('yaml');
    process.stdout.write(stringify(value));
  }

  /** What happened on the way to the findings, for readers of lines. */
  progress(line: string): void {
    if (this.format === 'lines') print([line]);
  }

  paint(text: string, colour: Colour): string {
    return this.colour ? `\x1b[${COLOURS[colour]}m${text}\x1b[0m` : text;
  }

  /** Columns of one width, of what a tree or a table has beside each other. */
  columns(rows: readonly (readonly Cell[])[]): string[] {
    const text = (cell: Cell) => (typeof cell === 'string' ? cell : cell[0]);
    const widths: number[] = [];
    for (const row of rows) {
      for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, [...text(cell)].length);
    }
    const pad = (cell: Cell, i: number, row: readonly Cell[]) => {
      const blanks = i === row.length - 1 ? '' : ' '.repeat((widths[i] ?? 0) - [...text(cell)].length);
      return `${typeof cell === 'string' ? cell : this.paint(...cell)}${blanks}`;
    };
    return rows.map(row => row.map(pad).join('  ').trimEnd());
  }

  #align({ head, rows }: Table): string[] {
    return this.columns([head.map(title => [title, 'bold'] as const), ...rows]);
  }
}

function print(lines: readonly string[]): void {
  if (lines.length > 0) process.stdout.write(`${lines.join('\n')}\n`);
}
