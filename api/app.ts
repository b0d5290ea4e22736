/** The API without a door: routes, and the one place where an HTTP error is written. */
import type { RequestListener } from 'node:http';
import express from 'express';
import type { Engine } from '../engine/engine.js';
import { describeError, type ErrorKind, InvalidError, toSandError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import { answer } from './answer.js';
import { parseBody } from './body.js';
import { endpointRoutes } from './endpoints.js';
import { hostRoutes } from './hosts.js';
import { askUnderlay, networkRoutes } from './networks.js';
import { openApi } from './openapi.js';
import { type ErrorHandler, type Handler, newRoutes, pathOf, type Routes } from './routes.js';
import { statusRoute } from './status.js';
import { upkeepRoutes } from './upkeep.js';

const BODY_MAX = '256kb'; // chosen: a request has a few hundred bytes

const STATUS: Readonly<Record<ErrorKind, number>> = {
  invalid: 400,
  'not-found': 404,
  conflict: 409,
  exhausted: 409,
  unavailable: 503,
  kernel: 500,
};

/** What an error is to a client: status and body. */
export function errorAnswer(thrown: unknown): { readonly status: number; readonly body: object } {
  const { kind, message, facts } = toSandError(thrown);
  return { status: STATUS[kind], body: { error: message, code: kind, details: facts } };
}

export function apiApp(engine: Engine, version: string, log: Logger): RequestListener {
  const routes = apiRoutes(engine, version, log);
  // What nobody has answered, or has broken off while answering.
  return (request, response) => routes(request, response, () => response.destroy());
}

export function apiRoutes(engine: Engine, version: string, log: Logger): Routes {
  const routes = newRoutes();
  routes.use(refuseBrowsers);
  routes.use('/networks', askUnderlay(engine));
  routes.use(express.text({ type: () => true, limit: BODY_MAX }) as Handler, readBody);
  // First, since express asks one after the other, and each costs a request time.
  routes.use('/endpoints', endpointRoutes(engine));
  routes.use('/networks', networkRoutes(engine));
  routes.get('/version', (_request, response) => {
    answer(response, { version });
  });
  routes.get('/openapi.json', (_request, response) => {
    answer(response, openApi(version));
  });
  routes.get('/status', statusRoute(engine, version));
  routes.use((_request, _response, next) => {
    engine.requireName();
    next();
  });
  routes.use('/hosts', hostRoutes(engine));
  routes.use(upkeepRoutes(engine));
  routes.use(nothingHere);
  routes.use(errors(log));
  return routes;
}

/** A page in somebody's browser reaches localhost, too; only a browser sends this header. */
const refuseBrowsers: Handler = (request, _response, next) => {
  const { origin } = request.headers;
  if (origin === undefined || request.method === 'GET') return next();
  throw new InvalidError(`Requests of web pages are refused (header Origin: ${origin}); use a client`, {
    field: 'Origin',
  });
};

const readBody: Handler = (request, _response, next) => {
  if (request.method === 'POST') request.body = parseBody((request.body as string | undefined) || '{}');
  next();
};

const nothingHere: Handler = (request, response) => {
  const error = `No ${request.method} ${pathOf(request)} here; see GET /openapi.json`;
  answer(response, { error, code: 'not-found' }, 404);
};

const errors =
  (log: Logger): ErrorHandler =>
  (thrown, request, response, _next) => {
    const error = fromExpress(thrown);
    const { status, body } = errorAnswer(error);
    const facts = { method: request.method, path: pathOf(request), err: describeError(error) };
    if (status >= 500) log.warn('request failed', facts);
    answer(response, body, status);
  };

/** express's own refusals, of a body or of a path, bear a status below 500. */
function fromExpress(thrown: unknown): unknown {
  const { status, message, type } = thrown as { status?: unknown; message?: string; type?: unknown };
  if (typeof status !== 'number' || status >= 500) return thrown;
  const field = type === undefined ? 'path' : 'body';
  return new InvalidError(`The request's ${field} is refused: ${message}`, { field, cause: thrown });
}
