/** The only place that knows winston. */
import { createLogger, format, transports } from 'winston';
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
  createLogger({
    level,
    format: format.combine(format.timestamp(), text),
    transports: [new transports.Console({ stderrLevels: [...stderr] })],
  });
