/**
 * The agent as a managed plugin. Docker disables for good a plugin that exits, or does not listen at its start: so it
 * listens before it reads a setting, and whatever is wrong is answered to Docker, logged and tried again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { checkFree } from '../listen/unix-socket.js';
import { describeError, toSandError } from '../model/errors.js';
import { type Logger, rateLimited } from '../model/log.js';
import { type Methods, PluginServer } from '../plugin/server.js';
import type { Agent, AgentOptions } from './agent.js';
import { readCommandLine } from './config.js';
import { end, onHangUp, stopped } from './lifetime.js';
import { apiSocketOf, SETTINGS } from './settings.js';
import { openTls } from './tls.js';

const TRY_AGAIN_MS = 3_000; // chosen: short against an operator's patience

type Start = Pick<AgentOptions, 'log' | 'version' | 'plugin' | 'methods' | 'failed'>;

export async function runManaged(argv: readonly string[], version: string): Promise<void> {
  const stop = stopped();
  const hungUp = onHangUp();
  let [notStarted, ended]: (Error | undefined)[] = [];
  const methods = promised<Methods>();
  const log = promised<Logger>();
  const plugin = await PluginServer.listen({
    path: SETTINGS.pluginSocket.fallback,
    methods: methods.promise,
    log: log.promise,
    obstacle: () => ended ?? notStarted,
  });
  const { createLog } = await import('./log.js');
  // dockerd takes every line on standard error for an error.
  const logger = createLog(logLevel(), ['error', 'warn']);
  log.resolve(logger);
  process.on('unhandledRejection', error => logger.error('unhandled rejection', { err: String(error) }));
  const failed = (error: unknown) => {
    ended = toSandError(error);
  };
  const start: Start = { log: logger, version, plugin, methods: methods.resolve, failed };
  const complain = rateLimited(logger);
  const stopping = new AbortController();
  const retry = (error: unknown) => {
    notStarted = toSandError(error);
    complain.error('not started, trying again', { err: describeError(error) });
  };
  const starting = untilStarted(() => startAgent(argv, start), retry, stopping.signal).then(agent => {
    notStarted = undefined;
    if (agent) hungUp(() => agent.reload());
    return agent;
  });
  const signal = await stop;
  stopping.abort();
  await end(signal, { plugin, agent: await starting, logger });
}

async function untilStarted(
  start: () => Promise<Agent>,
  retry: (error: unknown) => void,
  signal: AbortSignal,
): Promise<Agent | undefined> {
  while (!signal.aborted) {
    try {
      return await start();
    } catch (error) {
      retry(error);
      await sleep(TRY_AGAIN_MS, undefined, { signal }).catch(() => undefined);
    }
  }
  return undefined;
}

/** Reads every setting anew: files may have come since. */
async function startAgent(argv: readonly string[], start: Start): Promise<Agent> {
  const commandLine = readCommandLine(argv, process.env);
  if (commandLine.kind !== 'run') throw new Error(`--managed and --${commandLine.kind} exclude each other`);
  const { config, warnings } = commandLine;
  const tls = openTls(config);
  await checkFree(apiSocketOf(config), '--run-dir');
  for (const note of warnings) start.log.warn('stray variable', { note });
  const { Agent } = await import('./agent.js');
  return Agent.start(config, { ...start, tls, greet: false });
}

/** Known before the settings are, since these may be what is wrong. */
function logLevel(): keyof Logger {
  try {
    return SETTINGS.logLevel.parse(process.env['SAND_LOG_LEVEL'] || 'info', 'SAND_LOG_LEVEL');
  } catch {
    return 'info';
  }
}

function promised<T>(): { readonly promise: Promise<T>; readonly resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>(fulfil => {
    resolve = fulfil;
  });
  return { promise, resolve };
}
