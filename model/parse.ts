/** Unknown data against a zod schema: the one place where its complaints become ours. */
import type { z } from 'zod';
import { InvalidError } from './errors.js';
import { invalid } from './scalars.js';

/** @throws InvalidError that names the field. */
export function parseWith<T extends z.ZodType>(schema: T, body: unknown): z.infer<T> {
  const parsed = schema.safeParse(body, { error: ofWrongType });
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = issue?.path.join('.') ?? '';
  if (issue?.code === 'unrecognized_keys') {
    const field = [path, issue.keys[0]].filter(Boolean).join('.');
    throw new InvalidError(`${field} is no field of this request; leave it out or correct its name`, {
      field,
    });
  }
  throw new InvalidError(complaint(path, issue?.message ?? 'malformed'), { field: path || 'body' });
}

const NOUNS: Readonly<Record<string, string>> = { array: 'a list', object: 'an object', record: 'an object' };

/** In our own words; undefined leaves zod its text. */
const ofWrongType: z.core.$ZodErrorMap = issue => {
  if (issue.code !== 'invalid_type') return undefined;
  const name = String(issue.path?.at(-1) ?? 'body');
  return invalid(name, issue.input, NOUNS[issue.expected] ?? `a ${issue.expected}`).message;
};

/** Our own parse functions begin with the field's name; zod's texts do not. */
function complaint(path: string, message: string): string {
  const name = path.slice(path.lastIndexOf('.') + 1) || 'body';
  if (message.startsWith(`${name} `)) return `${path.slice(0, -name.length)}${message}`;
  return `${path || 'body'}: ${message}`;
}
