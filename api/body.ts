/** A request's body. Its Content-Type is not asked for: clients of the original send none. */
import { type AnyNode, parse } from '@humanwhocodes/momoa';
import { InvalidError } from '../model/errors.js';

/**
 * JSON without ambiguity: `JSON.parse` keeps the last of two equal keys, and a key `__proto__` that checks do not see.
 * @throws InvalidError that names the key.
 */
export function parseBody(text: string): unknown {
  let body: unknown;
  try {
    body = JSON.parse(text);
    if (!isPlain(text, body)) refuseAmbiguity(parse(text), '');
  } catch (cause) {
    if (cause instanceof InvalidError) throw cause;
    throw new InvalidError(`The request body is not JSON (${(cause as Error).message})`, {
      field: 'body',
      cause,
    });
  }
  if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body;
  throw new InvalidError('The request body must be a JSON object', { field: 'body' });
}

/** What says all of its text again has lost no key: so for all that programs send, and cheaper than a tree of nodes. */
const isPlain = (text: string, body: unknown) => !text.includes('__proto__') && JSON.stringify(body) === text;

function refuseAmbiguity(node: AnyNode, path: string): void {
  if (node.type === 'Document') refuseAmbiguity(node.body, path);
  if (node.type === 'Array') for (const { value } of node.elements) refuseAmbiguity(value, path);
  if (node.type !== 'Object') return;
  const seen = new Set<string>(['__proto__']);
  for (const { name, value } of node.members) {
    const key = name.type === 'String' ? name.value : name.name;
    const field = path === '' ? key : `${path}.${key}`;
    if (seen.has(key)) {
      const why = key === '__proto__' ? 'is no field of this request' : 'is given twice';
      throw new InvalidError(`${field} ${why}; leave it out`, { field });
    }
    seen.add(key);
    refuseAmbiguity(value, field);
  }
}
