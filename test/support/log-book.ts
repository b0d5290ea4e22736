import type { Logger } from '../../model/log.js';

export interface LogLine {
  readonly level: keyof Logger;
  readonly text: string;
  readonly facts: Readonly<Record<string, unknown>> | undefined;
}

/** A logger that keeps its lines for a test to read. */
export class LogBook implements Logger {
  readonly lines: LogLine[] = [];
  debug = this.#note('debug');
  info = this.#note('info');
  warn = this.#note('warn');
  error = this.#note('error');

  texts(level: keyof Logger): string[] {
    return this.lines.filter(line => line.level === level).map(({ text }) => text);
  }

  #note(level: keyof Logger): Logger['info'] {
    return (text, facts) => {
      this.lines.push({ level, text, facts });
    };
  }
}
