/** The line as it was typed, and as the parser reads it. */
import type { Command, Flag, Flags } from './command.js';
import { COMMANDS } from './commands/index.js';
import { GLOBAL_FLAGS } from './flags.js';

interface Named {
  readonly name: string;
  readonly flag: Flag;
}

const namesOf = ([name, flag]: readonly [string, Flag]): [string, Named][] => [
  [`--${name}`, { name, flag }],
  ...(flag.alias ? [[`-${flag.alias}`, { name, flag }] as [string, Named]] : []),
];

/** Flags of all commands by what stands on the line: `--network`, `-n`. One name means one kind everywhere. */
const FLAGS = new Map<string, Named>(
  [GLOBAL_FLAGS, ...COMMANDS.map(({ flags }) => flags)].flatMap((flags: Flags) =>
    Object.entries(flags).flatMap(namesOf),
  ),
);

export const flagNamed = (word: string): Flag | undefined => FLAGS.get(word)?.flag;

/** The flag of a word, when its value is the next word. */
export function flagAwaiting(word: string): Flag | undefined {
  const flag = flagNamed(word);
  return flag?.type === 'boolean' ? undefined : flag;
}

/** Index of the first word that is neither a flag nor a flag's value; past the end when there is none. */
export function commandIndex(words: readonly string[]): number {
  let at = 0;
  while (at < words.length && words[at]?.startsWith('-')) at += flagAwaiting(words[at] ?? '') ? 2 : 1;
  return at;
}

export const commandNamed = (name: string | undefined): Command | undefined =>
  COMMANDS.find(command => command.name === name);

/** `-network x`, `-n=x` and the like, which Go's tools take, with both dashes. */
function longFlag(word: string): string {
  const [, dashed = '', value] = /^-([a-zA-Z][a-z-]*)(=.*)?$/s.exec(word) ?? [];
  const named = FLAGS.get(dashed.length > 1 ? `--${dashed}` : `-${dashed}`);
  return named && (dashed.length > 1 || value !== undefined) ? `--${named.name}${value ?? ''}` : word;
}

/** One spelling of what may be written in several: `-name x`, `network list`, `help network-list`. */
export function normalize(typed: readonly string[]): string[] {
  const words = typed.map(longFlag);
  const at = commandIndex(words);
  const [first, second] = words.slice(at);
  if (first === 'help') return [...words.slice(0, at), ...words.slice(at + 1), '--help'];
  const joined = `${first}-${second}`;
  return commandNamed(joined) ? [...words.slice(0, at), joined, ...words.slice(at + 2)] : words;
}
