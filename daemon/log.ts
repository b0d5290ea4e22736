/** The only place that knows winston. */
import { createLogger, format, transports, type Logger as Winston } from 'winston';
import type { Logger } from '../model/log.js';

const text = format.printf(({ level, message, timestamp, ...facts }) => {
  const fields = Object.entries(facts).map(([key, value]) => `${key}=${show(value)}`);
  return [timestamp, level.toUpperCase().padEnd(5), message, ...fields].join(' ');
});

const show = (value: unknown) =>
  typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : (JSON.stringify(value) ?? String(value));

const LEVELS: readonly (keyof Logger)[] = ['error', 'warn', 'info', 'debug'];

/** Lines on standard error, or those of `stderr` alone: time, level, text, facts as key=value. */
export const createLog = (level: keyof Logger, stderr = LEVELS): Logger =>
  afterAnswers(
    createLogger({
      level,
      format: format.combine(format.timestamp(), text),
      transports: [new transports.Console({ stderrLevels: [...stderr] })],
    }),
  );

/**
 * What goes as it should is said when those have their answers who wait for them: making a line costs as much as a
 * fifth of a small request. A trouble is said at once, behind what was said before it.
 */
function afterAnswers(log: Winston): Logger {
  const waiting: (() => void)[] = [];
  const flush = () => {
    for (const write of waiting.splice(0)) write();
  };
  process.on('exit', flush);
  const later =
    (level: 'debug' | 'info'): Logger[typeof level] =>
    (...line) => {
      if (log.isLevelEnabled(level) && waiting.push(() => log[level](...line)) === 1) setImmediate(flush);
    };
  const now =
    (level: 'warn' | 'error'): Logger[typeof level] =>
    (...line) => {
      flush();
      log[level](...line);
    };
  return { debug: later('debug'), info: later('info'), warn: now('warn'), error: now('error') };
}
