/** Typed records from stored JSON: what enters is parsed once, here. */
import type { z } from 'zod';
import { ConflictError } from '../model/errors.js';
import type { KeyValue } from './client.js';

/**
 * Reads a stored value.
 * @throws ConflictError that names the key and the field: somebody wrote what no agent writes.
 */
export function parseRecord<T extends z.ZodType>(schema: T, entry: KeyValue): z.infer<T> {
  const problem = (text: string, cause: unknown) =>
    new ConflictError(`The value of etcd key ${entry.key} is broken: ${text}; restore or delete the key`, {
      cause,
      key: entry.key,
    });
  let json: unknown;
  try {
    json = JSON.parse(entry.value);
  } catch (error) {
    throw problem('not JSON', error);
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw problem(`${issue?.path.join('.') || 'value'}: ${issue?.message ?? 'malformed'}`, parsed.error);
}
