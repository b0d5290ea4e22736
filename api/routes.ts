/**
 * express's router on Node's own requests and responses. `express()` would give both of them other prototypes for each
 * call, and what V8 has learnt of Node's is worth nothing then: 0.1 ms of the main thread (docs/decisions/0021).
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type ParsedUrlQuery, parse } from 'node:querystring';
import { Router } from 'express';

/** Of a path with at most one parameter, at its end. */
type Params<Path extends string> = Path extends `${string}:${infer Name}`
  ? Readonly<Record<Name, string>>
  : object;

export interface ApiRequest<Path extends string = string> extends IncomingMessage {
  /** What was sent, and from `readBody` on what it says. */
  body: unknown;
  params: Params<Path>;
}

export type Next = (error?: unknown) => void;
export type Handler<Path extends string = string> = (
  request: ApiRequest<Path>,
  response: ServerResponse,
  next: Next,
) => unknown;
export type ErrorHandler = (
  thrown: unknown,
  request: ApiRequest,
  response: ServerResponse,
  next: Next,
) => void;

type AddRoute = <Path extends string>(path: Path, handler: Handler<Path>) => void;

/** What this API uses of it. A handler that throws, or whose promise is rejected, is followed by the next error handler. */
export interface Routes {
  /** `done` is called when no handler has answered, and when the last one throws. */
  (request: IncomingMessage, response: ServerResponse, done: Next): void;
  use(...handlers: Handler[]): void;
  use(path: string, handler: Handler): void;
  use(handler: ErrorHandler): void;
  get: AddRoute;
  post: AddRoute;
  delete: AddRoute;
}

export const newRoutes = (): Routes => Router() as unknown as Routes;

export const pathOf = ({ url = '' }: IncomingMessage): string => url.split('?', 1)[0] ?? '';

/** A parameter that is given twice is a list. */
export const queryOf = ({ url = '' }: IncomingMessage): ParsedUrlQuery => {
  const at = url.indexOf('?');
  return at < 0 ? {} : parse(url.slice(at + 1));
};
