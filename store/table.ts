/** Typed records from stored JSON: what enters is parsed once, here. */
import type { z } from 'zod';
import { ConflictError } from '../model/errors.js';
import type { KeyValue } from './client.js';

/**
 * Reads a stored value. What its key says of it must stand in it, too: `expected`.
 * @throws ConflictError that names the key and the field: somebody wrote what no agent writes.
 */
export function parseRecord<T extends z.ZodType>(
  schema: T,
  entry: KeyValue,
  expected: Readonly<Record<string, string>> = {},
): z.infer<T> {
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
  if (parsed.success) {
    for (const [field, value] of Object.entries(expected)) {
      const found = (parsed.data as Readonly<Record<string, unknown>>)[field];
      if (found !== value) throw problem(`${field} is ${found}, the key says ${value}`, undefined);
    }
    return parsed.data;
  }
  const [issue] = parsed.error.issues;
  throw problem(`${issue?.path.join('.') || 'value'}: ${issue?.message ?? 'malformed'}`, parsed.error);
}

/** Like `parseRecord`; undefined for a value that is broken, where one object must not stop the others. */
export function findRecord<T extends z.ZodType>(schema: T, entry: KeyValue): z.infer<T> | undefined {
  try {
    return parseRecord(schema, entry);
  } catch (error) {
    if (error instanceof ConflictError) return undefined;
    throw error;
  }
}
