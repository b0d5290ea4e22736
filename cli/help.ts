/** `--help`, laid out by yargs from the table of commands. */
import yargs, { type Argv } from 'yargs';
import { type Command, type Flags, PROGRAM } from './command.js';
import { COMMANDS } from './commands/index.js';
import { GLOBAL_FLAGS } from './flags.js';

const WIDTH_MAX = 110; // chosen: longer lines are hard to read

function declare(argv: Argv, flags: Flags, group: string): Argv {
  for (const [name, { type, alias, describe, required }] of Object.entries(flags)) {
    argv.option(name, {
      type: type === 'list' ? 'string' : type,
      ...(alias && { alias }),
      describe: required ? `${describe} (required)` : describe,
      group,
    });
  }
  return argv;
}

const usageOf = ({ name, operand }: Command) =>
  operand ? `${name} ${operand.required ? `<${operand.name}>` : `[${operand.name}]`}` : name;

function build(argv: Argv, { flags, operand, example: [line, what] }: Command): Argv {
  declare(argv, flags, 'Flags:');
  if (operand) argv.positional(operand.name, { describe: operand.describe });
  // yargs' own examples are broken into two columns, and cannot be copied.
  return argv.epilogue(`Example, ${what}:\n  ${PROGRAM} ${line}`);
}

/** Prints the help of a command, or of the program. */
export async function showHelp(command: string | undefined): Promise<void> {
  const program = yargs([...(command ? [command] : []), '--help'])
    .scriptName(PROGRAM)
    .locale('en')
    .usage('$0 <command> [flags]: private networks for containers, across hosts')
    .version(false)
    .help('help', 'Show help')
    .alias('help', 'h')
    .wrap(Math.min(WIDTH_MAX, process.stdout.columns ?? WIDTH_MAX))
    .exitProcess(false);
  declare(program, GLOBAL_FLAGS, 'Flags of every command:');
  for (const each of COMMANDS) program.command(usageOf(each), each.summary, argv => build(argv, each));
  await program.parseAsync();
}
