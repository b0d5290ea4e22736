import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import { bindWithoutWarning } from '../../store/async-binding.js';

beforeAll(bindWithoutWarning);

describe('bindWithoutWarning()', () => {
  it('binds as Node does: scope, this, arguments, answer, errors and length', () => {
    const scope = new AsyncLocalStorage<string>();
    const resource = scope.run('made here', () => new AsyncResource('test'));
    const seen = function (this: object, a: number, b: number) {
      return { self: this, scope: scope.getStore(), sum: a + b };
    };
    const self = { name: 'self' };
    const ofCaller = resource.bind(seen);
    const given = scope.run('made here', () => AsyncResource.bind(seen, 'test', self));
    expect(ofCaller.call(self, 1, 2)).toEqual({ self, scope: 'made here', sum: 3 });
    expect(given.call({}, 1, 2)).toEqual({ self, scope: 'made here', sum: 3 });
    expect([ofCaller.length, given.length]).toEqual([2, 2]);
    const failing = resource.bind(() => {
      throw new Error('of the function');
    });
    expect(() => failing()).toThrow('of the function');
    expect(scope.getStore()).toBeUndefined();
  });

  it('refuses what is no function in Node’s own words', () => {
    const resource = new AsyncResource('test');
    expect(() => resource.bind('text' as unknown as () => void)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }),
    );
  });

  it('gives the function no property that warns, and is done once', () => {
    const before = AsyncResource.prototype.bind;
    bindWithoutWarning();
    expect(AsyncResource.prototype.bind).toBe(before);
    expect('asyncResource' in new AsyncResource('test').bind(() => undefined)).toBe(false);
  });
});
