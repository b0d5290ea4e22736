/** A host whose API is served, and sand-agent-cli as operators run it there. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ApiServer } from '../../api/server.js';
import { Kernel } from '../../overlay/kernel.js';
import { type CommandOptions, type CommandResult, run } from './command.js';
import { LogBook } from './log-book.js';
import type { TestNetns } from './netns.js';
import { NetworkHost } from './network-host.js';

export const CLI = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
export const VERSION = 'v0.1.0';

/** What the person who runs the tests has set is none of theirs. */
const CLEAN = { SAND_API_URL: undefined, SAND_TIMEOUT: undefined, NO_COLOR: undefined };

/** The program alone. */
export const cli = (args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> =>
  run([process.execPath, CLI, ...args], { ...options, env: { ...CLEAN, ...options.env } });

export interface CliHostPlan {
  readonly hosts: readonly string[];
  readonly prefix: string;
  readonly name: string;
  /** The namespace that plays the host; default: this process's own, where no endpoint is made active. */
  readonly netns?: TestNetns;
  /** Address of the namespace. */
  readonly vtep?: string;
}

export class CliHost implements AsyncDisposable {
  readonly socket: string;
  readonly #owned: AsyncDisposable[];

  private constructor(
    readonly host: NetworkHost,
    readonly directory: string,
    owned: AsyncDisposable[],
  ) {
    this.#owned = owned;
    this.socket = join(directory, 'api.sock');
  }

  static async open({ netns, ...plan }: CliHostPlan): Promise<CliHost> {
    const directory = await mkdtemp(join(tmpdir(), 'sand-cli-'));
    const log = new LogBook();
    const kernel = await Kernel.start({ log, ...(netns && { hostNetns: netns.path }) });
    const host = await NetworkHost.open({ ...plan, kernel });
    const server = await ApiServer.listen(host.engine, {
      port: 0,
      listen: undefined,
      socketPath: join(directory, 'api.sock'),
      tls: undefined,
      version: VERSION,
      log,
    });
    return new CliHost(host, directory, [server, host, kernel]);
  }

  get apiUrl(): string {
    return `unix://${this.socket}`;
  }

  /** One run of the program, told where the agent is by its environment. */
  cli(...args: readonly string[]): Promise<CommandResult> {
    return cli(args, { env: { SAND_API_URL: this.apiUrl } });
  }

  /** Standard output of a run that went well. @throws {Error} otherwise */
  async out(...args: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.cli(...args);
    if (status === 0 && stderr === '') return stdout;
    throw new Error(`sand-agent-cli ${args.join(' ')}: exit status ${status}: ${stderr}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const part of this.#owned) await part[Symbol.asyncDispose]();
    await rm(this.directory, { recursive: true, force: true });
  }
}
