/** Boxes of text on a terminal. Colours are added to whole words at the very end, so that widths stay what they are. */

export interface Box {
  readonly title: string;
  readonly lines: readonly string[];
}

const ELLIPSIS = '…';

/** A piece of text in exactly `width` columns. */
export const clip = (text: string, width: number): string =>
  text.length > width ? `${text.slice(0, width - 1)}${ELLIPSIS}` : text.padEnd(width);

/** A box with its title in the upper edge, `width` columns wide. */
export function drawBox({ title, lines }: Box, width: number): string[] {
  const head = clip(`─ ${title} `, Math.min(title.length + 3, width - 2));
  return [
    `┌${head.padEnd(width - 2, '─')}┐`,
    ...lines.map(line => `│ ${clip(line, width - 4)} │`),
    `└${'─'.repeat(width - 2)}┘`,
  ];
}

/** A line from one box down to the next, with words beside it. */
export const cable = (width: number, words: string): string[] => [
  clip(`${' '.repeat(CABLE_AT)}│ ${words}`, width),
];
export const CABLE_AT = 6;

/** Two columns of the same height, side by side. */
export function sideBySide(left: readonly string[], right: readonly string[], gap: number): string[] {
  const height = Math.max(left.length, right.length);
  const width = Math.max(...left.map(line => line.length));
  return Array.from(
    { length: height },
    (_, row) => `${(left[row] ?? '').padEnd(width)}${' '.repeat(gap)}${right[row] ?? ''}`,
  );
}

/** Lines of at most `width` columns, broken at blanks; all but the first are indented by two. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = ` `;
    }
    line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

const COLOURS = { dim: 2, bold: 1, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
export type Colour = keyof typeof COLOURS;

/** Paints only where a terminal looks at it. */
export function painter(stream: NodeJS.WriteStream) {
  const colours = stream.isTTY === true && (process.env['NO_COLOR'] ?? '') === '';
  return (text: string, colour: Colour): string =>
    colours ? `\u001b[${COLOURS[colour]}m${text}\u001b[0m` : text;
}
export type Paint = ReturnType<typeof painter>;
