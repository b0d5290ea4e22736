/**
 * The one error class of SAND and its six kinds. Thrown where the fact is known, mapped once per edge:
 * the plugin answers `Err`, the HTTP API a status, the CLI an exit status.
 */
export type ErrorKind = 'invalid' | 'not-found' | 'conflict' | 'exhausted' | 'unavailable' | 'kernel';

/** Facts of an error with the log's field names, so that a log line and an answer agree. */
export type Facts = Readonly<Record<string, unknown>>;

export abstract class SandError extends Error {
  abstract readonly kind: ErrorKind;
  readonly facts: Facts;

  constructor(message: string, facts: Facts & { readonly cause?: unknown } = {}) {
    const { cause, ...rest } = facts;
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.facts = rest;
  }
}

/** The request or a setting is malformed; `facts.field` names it. */
export class InvalidError extends SandError {
  readonly kind = 'invalid';
}
export class NotFoundError extends SandError {
  readonly kind = 'not-found';
}
/** The request is well-formed, but another object stands in its way. */
export class ConflictError extends SandError {
  readonly kind = 'conflict';
}
/** A pool, the VNI range or a kernel table is full. */
export class ExhaustedError extends SandError {
  readonly kind = 'exhausted';
}
/** etcd or a peer does not answer in time; the same request may succeed later. */
export class UnavailableError extends SandError {
  readonly kind = 'unavailable';
}
/** The kernel refused: `facts.errno` and its own text, or an answer that did not come in time. */
export class KernelError extends SandError {
  readonly kind = 'kernel';
}

/** Turns anything thrown into a SandError: a stray exception is our defect and says so. */
export function toSandError(thrown: unknown): SandError {
  if (thrown instanceof SandError) return thrown;
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  return new UnavailableError(`Internal error: ${text}`, { cause: thrown });
}

/** An error in one line for a log, with its chain of causes. */
export function describeError(thrown: unknown): string {
  const parts: string[] = [];
  const seen = new Set<unknown>();
  for (
    let at: unknown = thrown;
    at !== undefined && !seen.has(at);
    at = at instanceof Error ? at.cause : undefined
  ) {
    seen.add(at);
    parts.push(at instanceof Error ? at.message : String(at));
    if (at instanceof AggregateError) parts.push(...at.errors.map(describeError));
  }
  return parts.join('; because ');
}
