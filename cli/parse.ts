/**
 * The line → a command and what it was given. Node's own parser reads it: yargs takes longer to import than all else
 * of a run together, so it is left to the help (`help.ts`). The table of commands tells both what there is.
 */
import { parseArgs } from 'node:util';
import { type Command, type Flag, type Flags, PROGRAM, UsageError } from './command.js';
import { GLOBAL_FLAGS } from './flags.js';
import { commandIndex, commandNamed, normalize } from './words.js';

export interface Invocation {
  readonly command: Command;
  /** Of the command and of every command. */
  readonly args: Readonly<Record<string, unknown>>;
  readonly operand: string;
}
/** The line asks for help: of a command, or of the program. */
export interface HelpWanted {
  readonly helpOf: string | undefined;
}

const HELP = { help: { type: 'boolean', short: 'h' } } as const;

function optionOf({ type, alias }: Flag) {
  return {
    type: type === 'boolean' ? ('boolean' as const) : ('string' as const),
    ...(alias && { short: alias }),
    ...(type === 'list' && { multiple: true }),
  };
}

const optionsOf = (flags: Flags) =>
  Object.fromEntries(Object.entries(flags).map(([name, flag]) => [name, optionOf(flag)]));

function readNumber(name: string, text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new UsageError(`--${name} is ${text}; it must be a whole number`);
}

function readFlag(name: string, { type }: Flag, found: unknown): unknown {
  if (type === 'list') return found ?? [];
  if (type === 'boolean') return found === true;
  // Scripts give the empty string for what they leave open.
  if (found === undefined || found === '') return undefined;
  return type === 'number' ? readNumber(name, found as string) : found;
}

function readFlags({ flags }: Command, found: Readonly<Record<string, unknown>>) {
  const args: Record<string, unknown> = {};
  for (const [name, flag] of Object.entries<Flag>({ ...GLOBAL_FLAGS, ...flags })) {
    args[name] = readFlag(name, flag, found[name]);
    if (flag.required && args[name] === undefined) throw new UsageError(`--${name} is missing`);
  }
  return args;
}

function readOperand({ operand }: Command, words: readonly string[]): string {
  const [word = '', extra] = operand ? words : ['', ...words];
  if (extra !== undefined) throw new UsageError(`${extra} is one word too many`);
  if (operand?.required && word === '') throw new UsageError(`<${operand.name}> is missing`);
  return word;
}

function read(command: Command, words: readonly string[]): Invocation | HelpWanted {
  const { values, positionals } = parseArgs({
    args: [...words],
    options: { ...optionsOf({ ...GLOBAL_FLAGS, ...command.flags }), ...HELP },
    allowPositionals: true,
  });
  if (values['help']) return { helpOf: command.name };
  return { command, args: readFlags(command, values), operand: readOperand(command, positionals.slice(1)) };
}

/** What is wrong, and where to read what is right. */
const usageError = (error: Error, command = '') =>
  new UsageError(`${error.message.split('. ')[0]}; see ${PROGRAM} ${command}${command && ' '}--help`, {
    cause: error,
  });

/** @throws UsageError */
export function parse(typed: readonly string[]): Invocation | HelpWanted {
  const words = normalize(typed);
  const name = words[commandIndex(words)];
  if (name === undefined && words.some(word => word === '--help' || word === '-h')) {
    return { helpOf: undefined };
  }
  const command = commandNamed(name);
  if (!command) throw usageError(new Error(name ? `there is no command ${name}` : 'the command is missing'));
  try {
    return read(command, words);
  } catch (error) {
    throw usageError(error as Error, command.name);
  }
}
