/**
 * Node 20 binds a function to every request of its HTTP/2 client with `AsyncResource.bind`, and hangs a deprecated
 * property on it whose getter and setter warn (`asyncResource`, DEP0172). Those are made by giving functions prototypes,
 * whose hidden classes V8 frees in a full collection alone, and with them all that the request has ever referred to: a
 * quarter of what a transaction allocates was copied twice by the collector before it was seen to be garbage.
 * docs/decisions/0021 has the figures.
 */
import { AsyncResource } from 'node:async_hooks';

type Bound = (this: unknown, ...args: unknown[]) => unknown;

/** As Node's, without that property. @throws TypeError of Node's own: `fn` is no function. */
function bind(this: AsyncResource, fn: Bound, thisArg?: unknown): Bound {
  if (typeof fn !== 'function') return nodesOwn.call(this, fn, thisArg) as Bound;
  const resource = this;
  const bound: Bound =
    thisArg === undefined
      ? function (...args) {
          return resource.runInAsyncScope(fn, this, ...args);
        }
      : (...args) => resource.runInAsyncScope(fn, thisArg, ...args);
  return Object.defineProperty(bound, 'length', { configurable: true, value: fn.length });
}

const nodesOwn = AsyncResource.prototype.bind as (
  this: AsyncResource,
  fn: Bound,
  thisArg?: unknown,
) => unknown;

/** For the whole process. A Node without that property keeps its own. */
export function bindWithoutWarning(): void {
  if (AsyncResource.prototype.bind === bind) return;
  const bound = new AsyncResource('SAND').bind(() => undefined);
  if ('asyncResource' in bound) AsyncResource.prototype.bind = bind as typeof AsyncResource.prototype.bind;
}
