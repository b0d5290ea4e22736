import { type ExecFileException, execFile } from 'node:child_process';
import { constants } from 'node:os';

export interface CommandOptions {
  /** Written to the command's standard input, which is closed after it. */
  readonly input?: string | Buffer;
  /** Default 30,000. The command is killed then, and the call throws. */
  readonly timeoutMs?: number;
  /** Added to this process's environment; `undefined` takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
}

export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
  /** Exit status; 128 + number of the signal that ended it, as shells say it. */
  readonly status: number;
}

/**
 * Runs a program (no shell) to its end, whatever its exit status.
 * @throws {Error} when it cannot be started or takes longer than `timeoutMs`.
 */
export function run(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const { input = '', timeoutMs = 30_000, env, cwd } = options;
  const [file = '', ...args] = argv;
  const settings = {
    timeout: timeoutMs,
    killSignal: 'SIGKILL' as const,
    maxBuffer: 256 * 1024 * 1024,
    env: env ? { ...process.env, ...env } : process.env,
    ...(cwd === undefined ? {} : { cwd }),
  };
  return new Promise((resolve, reject) => {
    const startedAt = performance.now();
    const child = execFile(file, args, settings, (error, stdout, stderr) => {
      const status = statusOf(error);
      const late = error?.killed && performance.now() - startedAt >= timeoutMs;
      if (status !== undefined && !late) return resolve({ stdout, stderr, status });
      const reason = late ? `no end after ${timeoutMs} ms: ${stderr}` : error?.message;
      reject(new Error(`${show(argv)}: ${reason}`, { cause: error }));
    });
    child.stdin?.on('error', () => {}); // EPIPE: a program need not read all of its input
    child.stdin?.end(input);
  });
}

function statusOf(error: ExecFileException | null): number | undefined {
  if (!error) return 0;
  if (error.signal) return 128 + constants.signals[error.signal];
  return typeof error.code === 'number' ? error.code : undefined;
}

/** Like `run`, and gives the standard output. @throws {Error} with the standard error's text unless it exits with 0. */
export async function ok(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { stdout, stderr, status } = await run(argv, options);
  if (status === 0) return stdout;
  throw new Error(`${show(argv)}: exit status ${status}: ${(stderr || stdout).trim()}`);
}

/** Like `ok`, for a program that prints one JSON value; no output gives undefined (`ip -j` on an empty list). */
export async function json<T = unknown>(argv: readonly string[], options: CommandOptions = {}): Promise<T> {
  const text = await ok(argv, options);
  return (text.trim() === '' ? undefined : JSON.parse(text)) as T;
}

const show = (argv: readonly string[]) => argv.join(' ').slice(0, 300);
