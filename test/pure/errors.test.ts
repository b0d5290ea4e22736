import {
  ConflictError,
  describeError,
  ExhaustedError,
  InvalidError,
  KernelError,
  NotFoundError,
  SandError,
  toSandError,
  UnavailableError,
} from '../../model/errors.js';

describe('SandError', () => {
  it.each([
    [InvalidError, 'invalid', 'InvalidError'],
    [NotFoundError, 'not-found', 'NotFoundError'],
    [ConflictError, 'conflict', 'ConflictError'],
    [ExhaustedError, 'exhausted', 'ExhaustedError'],
    [UnavailableError, 'unavailable', 'UnavailableError'],
    [KernelError, 'kernel', 'KernelError'],
  ])('%p is of kind %s and named %s', (Kind, kind, name) => {
    const error = new Kind('text', { network_id: 'n7' });
    expect(error).toBeInstanceOf(SandError);
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ kind, name, message: 'text', facts: { network_id: 'n7' } });
  });

  it('keeps the cause apart from the facts', () => {
    const cause = new Error('why');
    const error = new ConflictError('text', { cause, address: '10.0.0.2' });
    expect(error.cause).toBe(cause);
    expect(error.facts).toEqual({ address: '10.0.0.2' });
  });

  it('has no cause and no facts when none are given', () => {
    const error = new NotFoundError('text');
    expect('cause' in error).toBe(false);
    expect(error.facts).toEqual({});
  });
});

describe('toSandError()', () => {
  it('gives a SandError back as it is', () => {
    const error = new KernelError('text');
    expect(toSandError(error)).toBe(error);
  });

  it.each([
    [new TypeError('x is undefined'), 'x is undefined'],
    ['a string', 'a string'],
    [undefined, 'undefined'],
    [null, 'null'],
  ])('wraps %p as an internal error with its text', (thrown, text) => {
    const error = toSandError(thrown);
    expect(error).toMatchObject({ kind: 'unavailable', message: `Internal error: ${text}` });
    expect(error.cause).toBe(thrown);
  });
});

describe('describeError()', () => {
  it('tells the chain of causes, outermost first', () => {
    const root = new Error('connection refused');
    const error = new UnavailableError('etcd does not answer', {
      cause: new Error('no transaction', { cause: root }),
    });
    expect(describeError(error)).toBe(
      'etcd does not answer; because no transaction; because connection refused',
    );
  });

  it.each([
    ['text', 'text'],
    [new Error('alone'), 'alone'],
    [new Error('outer', { cause: 'a string' }), 'outer; because a string'],
  ])('of %p is %j', (thrown, text) => {
    expect(describeError(thrown)).toBe(text);
  });
});
