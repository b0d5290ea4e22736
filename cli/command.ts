/** What a command of sand-agent-cli is: data for the parser, the help and the completion, and the function that runs it. */
import type { SandClient } from './client.js';
import type { Output } from './output.js';

export const PROGRAM = 'sand-agent-cli';

/** What the shell may offer for a value. */
export type Candidates =
  | 'networks'
  | 'endpoints'
  | 'hosts'
  | 'registered-hosts'
  | 'files'
  | readonly string[];

export interface Flag {
  readonly type: 'string' | 'number' | 'boolean' | 'list';
  readonly alias?: string;
  readonly describe: string;
  readonly required?: true;
  readonly complete?: Candidates;
}
export type Flags = Readonly<Record<string, Flag>>;

/** The word after the command. */
export interface Operand {
  readonly name: string;
  readonly describe: string;
  readonly required?: true;
  readonly complete?: Candidates;
}

type Given<F extends Flag> = F extends { type: 'boolean' }
  ? boolean
  : F extends { type: 'list' }
    ? readonly string[]
    : (F extends { type: 'number' } ? number : string) | (F extends { required: true } ? never : undefined);

export type Args<F extends Flags> = { readonly [Name in keyof F]: Given<F[Name]> };

export interface Context<F extends Flags = Flags> {
  readonly args: Args<F>;
  /** Empty when there is none. */
  readonly operand: string;
  readonly client: SandClient;
  readonly output: Output;
}

export interface Command<F extends Flags = Flags> {
  readonly name: string;
  readonly summary: string;
  readonly operand?: Operand;
  readonly flags: F;
  /** A line without the program's name, and what it does. */
  readonly example: readonly [line: string, what: string];
  run(context: Context<F>): Promise<void>;
}

export const command = <const F extends Flags>(definition: Command<F>): Command =>
  definition as unknown as Command;

export const anyNetwork = {
  type: 'string',
  alias: 'n',
  describe: 'Name or id of the network',
  complete: 'networks',
} as const satisfies Flag;
/** The flag of every command about one network. */
export const network = { ...anyNetwork, required: true } as const;

/** The line is wrong: exit status 2. */
export class UsageError extends Error {}
