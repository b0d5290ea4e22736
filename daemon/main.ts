#!/usr/bin/env node
/**
 * sand-agent: settings → plugin socket → everything else → wait for one signal → close. The socket listens before
 * the libraries are loaded, since a plugin that does not answer in time is disabled for good.
 */
import { readFileSync } from 'node:fs';
import { checkFree } from '../listen/unix-socket.js';
import { SandError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import { type Methods, PluginServer } from '../plugin/server.js';
import { type CommandLine, readCommandLine, usage } from './config.js';
import { end, onHangUp, stopped } from './lifetime.js';
import { runManaged } from './managed.js';
import { apiSocketOf } from './settings.js';
import { openTls } from './tls.js';

const argv = process.argv.slice(2);
const isManaged = argv.includes('--managed');
const EXIT_BROKEN_SETTING = 2;

export const version = () =>
  `v${JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version}`;

function refuse(error: unknown): never {
  if (!(error instanceof SandError)) throw error;
  process.stderr.write(`sand-agent: ${error.message}\n`);
  process.exit(EXIT_BROKEN_SETTING);
}

/** What may find a setting broken. */
function checking<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    return refuse(error);
  }
}

async function run({ config, greet, warnings }: CommandLine & { kind: 'run' }): Promise<void> {
  const stop = stopped();
  const hungUp = onHangUp();
  const tls = checking(() => openTls(config));
  await checkFree(config.pluginSocket, '--plugin-socket').catch(refuse);
  await checkFree(apiSocketOf(config), '--run-dir').catch(refuse);
  let ready: (methods: Methods) => void = () => undefined;
  let logging: (log: Logger) => void = () => undefined;
  const methods = new Promise<Methods>(resolve => {
    ready = resolve;
  });
  const log = new Promise<Logger>(resolve => {
    logging = resolve;
  });
  const plugin = await PluginServer.listen({ path: config.pluginSocket, methods, log }).catch(refuse);
  const [{ createLog }, { Agent }] = await Promise.all([import('./log.js'), import('./agent.js')]);
  const logger = createLog(config.logLevel);
  logging(logger);
  process.on('unhandledRejection', error => logger.error('unhandled rejection', { err: String(error) }));
  for (const note of warnings) logger.warn('stray variable', { note });
  const options = { log: logger, version: version(), greet, tls, plugin, methods: ready };
  const agent = await Agent.start(config, options).catch(async error => {
    await plugin[Symbol.asyncDispose]();
    return refuse(error);
  });
  hungUp(() => agent.reload());
  await end(await stop, { plugin, agent, logger });
}

const commandLine = isManaged ? undefined : checking(() => readCommandLine(argv, process.env));
if (!commandLine) await runManaged(argv, version());
else if (commandLine.kind === 'run') await run(commandLine);
else if (commandLine.kind === 'print-config') {
  for (const warning of commandLine.warnings) process.stderr.write(`sand-agent: ${warning}\n`);
  const { printConfig } = await import('./print-config.js');
  process.stdout.write(await printConfig(commandLine));
} else process.stdout.write(commandLine.kind === 'help' ? `${usage()}\n` : `${version()}\n`);
