/** The signals that an agent lives by, and its end. */
import type { Logger } from '../model/log.js';

const END_WITHIN_MS = 900; // an agent must end within a second

/** The first SIGTERM or SIGINT. As PID 1 of a managed plugin Node ignores them unless somebody listens. */
export const stopped = () =>
  new Promise<string>(resolve => {
    for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => resolve(signal));
  });

/** Keeps SIGHUP, which ends a process that does not listen, until somebody can act on it. */
export function onHangUp(): (act: () => void) => void {
  let act: (() => void) | undefined;
  let pending = false;
  process.on('SIGHUP', () => {
    pending = act === undefined;
    act?.();
  });
  return reload => {
    act = reload;
    if (pending) act();
  };
}

export interface Running {
  readonly plugin: AsyncDisposable;
  /** Undefined when it could not be started. */
  readonly agent: AsyncDisposable | undefined;
  readonly logger: Logger;
}

export async function end(signal: string, { plugin, agent, logger }: Running): Promise<never> {
  logger.info('stopping', { signal });
  // What hangs then has nothing left to lose.
  setTimeout(() => process.exit(0), END_WITHIN_MS).unref();
  await plugin[Symbol.asyncDispose]();
  await agent?.[Symbol.asyncDispose]();
  process.exit(0);
}
