/**
 * Cleans up after this process, however it ends: a child of its own session holds a list of claims and sweeps
 * what is left of them once the pipe to us closes. So no signal handlers are needed here, and SIGKILL is covered.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { Claim } from './sweep.js';

/** One line on the guardian's standard input: a claim replaces an earlier one of the same id, none ends it. */
export interface GuardianLine {
  readonly id: number;
  readonly claim?: Claim;
}

const MAIN = fileURLToPath(new URL('./guardian-main.js', import.meta.url));
const claims = new Set<number>();
let guardian: ChildProcess | undefined;
let lastId = 0;

/** Puts a claim in the guardian's care, before anything of it is made. Call the result once it is removed. */
export async function protect(
  claim: Claim,
): Promise<{ update(claim: Claim): Promise<void>; release(): void }> {
  lastId += 1;
  const id = lastId;
  claims.add(id);
  await tell({ id, claim });
  return {
    update: newer => tell({ id, claim: newer }),
    release: () => {
      claims.delete(id);
      if (claims.size > 0) return void tell({ id }).catch(() => {});
      guardian?.stdin?.end(`${JSON.stringify({ id })}\n`); // a guardian with nothing to guard goes home
      guardian = undefined;
    },
  };
}

function tell(line: GuardianLine): Promise<void> {
  guardian ??= start();
  const { stdin } = guardian;
  return new Promise((resolve, reject) => {
    stdin?.write(`${JSON.stringify(line)}\n`, error => (error ? reject(error) : resolve()));
  });
}

/** Detached: a Ctrl-C in the terminal is for us, not for it. Unreferenced: it does not keep us running. */
function start(): ChildProcess {
  const child = spawn(process.execPath, [MAIN], { detached: true, stdio: ['pipe', 'ignore', 'inherit'] });
  child.stdin.on('error', () => {}); // the write that fails says so itself
  child.unref();
  (child.stdin as Socket).unref();
  return child;
}
