/** Durations as Go writes them, and as people read them. */
import { InvalidError } from '../model/errors.js';

const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};

/** `500ms`, `1m30s` or a bare number of seconds, in milliseconds. @throws InvalidError */
export function parseDuration(text: string, field = 'duration'): number {
  const parts = [
    ...(/^\d+(\.\d+)?$/.test(text) ? `${text}s` : text).matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g),
  ];
  const read = parts.map(([part]) => part).join('');
  if (parts.length === 0 || read.length < text.length) {
    throw new InvalidError(`${field} is ${text}; it must be a duration such as 30s or 1m30s`, { field });
  }
  return parts.reduce((sum, [, number, unit = 's']) => sum + Number(number) * (UNIT_MS[unit] ?? 0), 0);
}

/** The two largest units: `3 h 12 min`. */
export function showDuration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3_600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ] as const;
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return '0 s';
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ');
}
