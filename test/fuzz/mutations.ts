/** Changes of a valid request: of the parsed body, of its text, of method and path. Pure; every choice is a number. */
import fc from 'fast-check';
import type { FuzzRequest } from './templates.js';

/** What happens to one place of a body: `at` chooses the place, modulo their number. */
export type Edit =
  | { readonly kind: 'delete'; readonly at: number }
  | { readonly kind: 'replace'; readonly at: number; readonly value: unknown }
  | { readonly kind: 'rename'; readonly at: number; readonly name: string }
  | { readonly kind: 'insert'; readonly at: number; readonly name: string; readonly value: unknown }
  | { readonly kind: 'wrap'; readonly at: number };

/** What happens to the request as text. */
export type TextEdit =
  | { readonly kind: 'truncate'; readonly at: number }
  | { readonly kind: 'splice'; readonly at: number; readonly text: string }
  | { readonly kind: 'twice' }
  | { readonly kind: 'path'; readonly at: number; readonly text: string }
  | { readonly kind: 'query'; readonly text: string }
  | { readonly kind: 'method'; readonly method: string };

export interface Mutation {
  readonly edits: readonly Edit[];
  readonly text: readonly TextEdit[];
}

const ODD_TEXTS = [
  '',
  ' ',
  '\0',
  'null',
  '0',
  '-1',
  '../../etc/passwd',
  '/proc/1/ns/net',
  '/proc/self/ns/mnt',
  '/dev/zero',
  '/',
  '%00',
  '%2e%2e',
  '🦊',
  '\u202etxt',
  '\ud800',
  '\n',
  '__proto__',
  'constructor',
  'toString',
  'pending-1',
  'sandlocal',
  '10.0.0.0',
  '10.0.0.1',
  '10.0.0.2/24',
  '10.0.0.255',
  '10.0.0.0/24',
  '10.0.0.0/0',
  '0.0.0.0/0',
  '255.255.255.255',
  '::1',
  'fd00::/64',
  '1e3',
  '02:84:0a:00:00:02',
  'ff:ff:ff:ff:ff:ff',
  '00:00:00:00:00:00',
  '6ffc3990-b212-47f2-a5d1-2afe7526e548',
  'x'.repeat(129),
  'x'.repeat(5_000),
  'a'.repeat(300_000),
];
const ODD_NUMBERS = [0, -0, -1, 0.5, 1, 67, 68, 65_535, 65_536, 16_777_215, 2 ** 31, 2 ** 53, 1e300, -1e300];

const deep = (depth: number): unknown => (depth === 0 ? {} : [deep(depth - 1)]);
const hostile: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom<unknown>(...ODD_TEXTS) },
  { weight: 2, arbitrary: fc.constantFrom<unknown>(...ODD_NUMBERS) },
  fc.constantFrom<unknown>(null, true, false, [], {}, [null], [[]], deep(200)),
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.ipV4(),
  fc.jsonValue({ maxDepth: 3 }),
);

const at = fc.nat(1_000);
const name = fc.oneof(
  fc.constantFrom(
    '__proto__',
    'constructor',
    'toString',
    '',
    'id',
    'name',
    'Options',
    'com.docker.network.generic',
    'com.docker.network.internal',
    'com.docker.network.driver.mtu',
    'sand-id',
    'sand-vni',
    'sand-mtu',
    'sand-egress',
  ),
  fc.string({ maxLength: 12 }),
);
const edit: fc.Arbitrary<Edit> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('delete' as const), at }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('replace' as const), at, value: hostile }) },
  fc.record({ kind: fc.constant('rename' as const), at, name }),
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('insert' as const), at, name, value: hostile }) },
  fc.record({ kind: fc.constant('wrap' as const), at }),
);
const piece = fc.oneof(
  fc.constantFrom(...ODD_TEXTS.slice(0, -3), '{', '}', '"', '[', ',', '//', '?', '#', '%zz'),
  fc.string({ maxLength: 6 }),
);
const textEdit: fc.Arbitrary<TextEdit> = fc.oneof(
  fc.record({ kind: fc.constant('truncate' as const), at }),
  fc.record({ kind: fc.constant('splice' as const), at, text: piece }),
  fc.record({ kind: fc.constant('twice' as const) }),
  fc.record({ kind: fc.constant('path' as const), at, text: piece }),
  fc.record({ kind: fc.constant('query' as const), text: piece }),
  fc.record({
    kind: fc.constant('method' as const),
    method: fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS'),
  }),
);

/** A third stays as it is: without state there is nothing to be hit. */
export const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  { weight: 3, arbitrary: fc.constant({ edits: [], text: [] }) },
  {
    weight: 5,
    arbitrary: fc.record({ edits: fc.array(edit, { minLength: 1, maxLength: 3 }), text: fc.constant([]) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      edits: fc.constant([]),
      text: fc.array(textEdit, { minLength: 1, maxLength: 2 }),
    }),
  },
);

type Holder = Record<string, unknown>;
interface Place {
  readonly holder: Holder;
  readonly key: string;
}

/** Every member and element, at any depth. */
function placesOf(value: unknown): Place[] {
  if (typeof value !== 'object' || value === null) return [];
  const holder = value as Holder;
  return Object.keys(holder).flatMap(key => [{ holder, key }, ...placesOf(holder[key])]);
}

/** `__proto__` too becomes a member of its own. */
const define = (holder: Holder, key: string, value: unknown) =>
  Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true });

function applyEdit(body: Holder, edit: Edit): void {
  const places = placesOf(body);
  const place = places[edit.at % Math.max(places.length, 1)];
  if (edit.kind === 'insert') {
    const into = place?.holder ?? body;
    if (!Array.isArray(into)) define(into, edit.name, structuredClone(edit.value));
    return;
  }
  if (!place) return;
  const { holder, key } = place;
  const before = holder[key];
  if (edit.kind === 'delete' || edit.kind === 'rename') delete holder[key];
  // A copy: drawn values are shared, and later edits reach into them.
  if (edit.kind === 'replace') define(holder, key, structuredClone(edit.value));
  if (edit.kind === 'rename' && !Array.isArray(holder)) define(holder, edit.name, before);
  if (edit.kind === 'wrap') define(holder, key, [before]);
}

const insertAt = (text: string, at: number, piece: string) => {
  const place = at % (text.length + 1);
  return text.slice(0, place) + piece + text.slice(place);
};

/** What a client could put into a request line; anything else would be refused before it is sent. */
const lineSafe = (path: string) =>
  path.replace(/[^\x21-\x7e]/gu, char => Buffer.from(char).toString('hex').replace(/../g, '%$&'));

function applyText(request: FuzzRequest, edit: TextEdit): FuzzRequest {
  const { body = '', path } = request;
  switch (edit.kind) {
    case 'truncate':
      return { ...request, body: body.slice(0, edit.at % (body.length + 1)) };
    case 'splice':
      return { ...request, body: insertAt(body, edit.at, edit.text) };
    case 'twice':
      return { ...request, body: body + body };
    case 'path':
      return {
        ...request,
        path: lineSafe(insertAt(path.slice(1), edit.at, edit.text.slice(0, 2_000)).replace(/^/, '/')),
      };
    case 'query':
      return {
        ...request,
        path: lineSafe(`${path}${path.includes('?') ? '&' : '?'}${edit.text.slice(0, 2_000)}`),
      };
    case 'method':
      return request.method === 'CONNECT' ? request : { ...request, method: edit.method };
  }
}

/** The request after its mutation; `body` is changed in place. */
export function mutated(
  request: Omit<FuzzRequest, 'body'>,
  body: Record<string, unknown> | undefined,
  { edits, text }: Mutation,
): FuzzRequest {
  if (body) for (const edit of edits) applyEdit(body, edit);
  const whole: FuzzRequest = { ...request, ...(body ? { body: JSON.stringify(body) } : {}) };
  return text.reduce(applyText, whole);
}
