/** Unknown data against a zod schema: the one place where its complaints become ours. */
import type { z } from 'zod';
import { InvalidError } from './errors.js';

/** @throws InvalidError that names the field. */
export function parseWith<T extends z.ZodType>(schema: T, body: unknown): z.infer<T> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const field = issue?.path.join('.') || 'body';
  throw new InvalidError(`${field}: ${issue?.message ?? 'malformed'}`, { field });
}
