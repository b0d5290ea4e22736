/** The flags of every command, and what they mean. */
import { SandClient } from './client.js';
import { type Args, type Flags, UsageError } from './command.js';
import { parseDuration } from './duration.js';
import { colourOn, FORMATS, type Format, Output } from './output.js';

export const GLOBAL_FLAGS = {
  'api-url': {
    type: 'string',
    describe: 'Agent: http://…, https://… or unix:///run/sand/api.sock [SAND_API_URL, http://localhost:9999]',
  },
  'cert-file': { type: 'string', describe: 'Client certificate, PEM [SAND_CERT_FILE]', complete: 'files' },
  'key-file': { type: 'string', describe: 'Its key, PEM [SAND_KEY_FILE]', complete: 'files' },
  'ca-file': { type: 'string', describe: 'CA of the agent, PEM [SAND_CA_FILE]', complete: 'files' },
  timeout: { type: 'string', describe: 'Limit such as 500ms or 1m30s [SAND_TIMEOUT, 30s]' },
  output: {
    type: 'string',
    describe: 'table, json or yaml; default: the lines that scripts parse',
    complete: FORMATS,
  },
  json: { type: 'boolean', describe: 'Short for --output json' },
} as const satisfies Flags;

type GlobalArgs = Args<typeof GLOBAL_FLAGS>;

const given = (flag: string | undefined, variable: string) => flag || process.env[variable] || undefined;

export function outputOf({ output, json }: GlobalArgs): Output {
  const format = output ?? (json ? 'json' : 'lines');
  if (format !== 'lines' && !FORMATS.includes(format as (typeof FORMATS)[number])) {
    throw new UsageError(`--output is ${format}; it must be ${FORMATS.join(', ')}`);
  }
  if (json && format !== 'json') throw new UsageError(`--json and --output ${format} exclude each other`);
  return new Output(format as Format, colourOn(process.stdout, process.env));
}

/** Flags come before the environment. @throws UsageError */
export function clientOf(args: GlobalArgs): SandClient {
  try {
    return new SandClient({
      apiUrl: given(args['api-url'], 'SAND_API_URL') ?? 'http://localhost:9999',
      timeoutMs: parseDuration(given(args.timeout, 'SAND_TIMEOUT') ?? '30s', '--timeout'),
      tls: {
        cert: given(args['cert-file'], 'SAND_CERT_FILE'),
        key: given(args['key-file'], 'SAND_KEY_FILE'),
        ca: given(args['ca-file'], 'SAND_CA_FILE'),
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
}
