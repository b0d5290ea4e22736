/** One run of sand-agent-cli: 0 when all went well, 1 for what went wrong, 2 for a line that is wrong. */
import { type Args, UsageError } from './command.js';
import { clientOf, type GLOBAL_FLAGS, outputOf } from './flags.js';
import { parse } from './parse.js';

export async function runProgram(words: readonly string[]): Promise<number> {
  process.stdout.on('error', endOnBrokenPipe);
  try {
    if (words[0] === '__complete') await offer(words.slice(1));
    else await execute(words);
    return 0;
  } catch (error) {
    const line = (error as Error).message.replace(/\s*\n\s*/g, ' ');
    process.stderr.write(`sand-agent-cli: ${line}\n`);
    return error instanceof UsageError ? 2 : 1;
  }
}

async function execute(words: readonly string[]): Promise<void> {
  const found = parse(words);
  if ('helpOf' in found) {
    const { showHelp } = await import('./help.js');
    return showHelp(found.helpOf);
  }
  const { command, operand } = found;
  const args = found.args as Args<typeof GLOBAL_FLAGS>;
  const output = outputOf(args);
  using client = clientOf(args);
  await command.run({ args, operand, client, output });
}

async function offer(words: readonly string[]): Promise<void> {
  const { offersFor } = await import('./offer.js');
  const lines = (await offersFor(words)).map(({ value, describe }) =>
    describe ? `${value}\t${describe}` : value,
  );
  if (lines.length > 0) process.stdout.write(`${lines.join('\n')}\n`);
}

/** `| head` has read enough. */
function endOnBrokenPipe(error: NodeJS.ErrnoException): void {
  process.exit(error.code === 'EPIPE' ? 0 : 1);
}
