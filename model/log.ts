/** What the code below `daemon/` knows of logging: constant text, facts as fields (`network_id`, `err`, …). */
export interface Logger {
  debug(text: string, facts?: Readonly<Record<string, unknown>>): void;
  info(text: string, facts?: Readonly<Record<string, unknown>>): void;
  warn(text: string, facts?: Readonly<Record<string, unknown>>): void;
  error(text: string, facts?: Readonly<Record<string, unknown>>): void;
}

/**
 * Passes at most one line a minute for each text, with the number of lines held back since.
 * For loops that meet the same trouble again and again while etcd or the kernel is away.
 */
export function rateLimited(log: Logger, everyMs = 60_000): Logger {
  const last = new Map<string, { at: number; held: number }>();
  const pass = (level: keyof Logger) => (text: string, facts?: Readonly<Record<string, unknown>>) => {
    const seen = last.get(text);
    const now = Date.now();
    if (seen && now - seen.at < everyMs) {
      seen.held += 1;
      return;
    }
    log[level](text, seen?.held ? { ...facts, lines_held_back: seen.held } : facts);
    last.set(text, { at: now, held: 0 });
  };
  return { debug: pass('debug'), info: pass('info'), warn: pass('warn'), error: pass('error') };
}
