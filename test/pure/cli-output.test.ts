import { colourOn, Output } from '../../cli/output.js';
import { normalize } from '../../cli/words.js';

describe('colour', () => {
  it.each([
    [true, {}, true],
    [false, {}, false],
    [true, { NO_COLOR: '1' }, false],
    [true, { NO_COLOR: '' }, true],
    [true, { TERM: 'dumb' }, false],
  ])('on a terminal: %s, with %j: %s', (isTTY, env, on) => {
    expect(colourOn({ isTTY }, env)).toBe(on);
  });

  it('does not change the width of a column', () => {
    const rows = [
      [['ACTIVE', 'green'], 'a'],
      [['PASSIVE', 'yellow'], 'b'],
    ] as const;
    expect(new Output('table', false).columns(rows)).toEqual(['ACTIVE   a', 'PASSIVE  b']);
    expect(new Output('table', true).columns(rows)).toEqual([
      '\x1b[32mACTIVE\x1b[0m   a',
      '\x1b[33mPASSIVE\x1b[0m  b',
    ]);
  });
});

describe('normalize()', () => {
  it.each([
    ['network-show -n shop', 'network-show -n shop'],
    ['network inspect shop', 'network-inspect shop'],
    ['--api-url http://a network list', '--api-url http://a network-list'],
    ['--json network list', '--json network-list'],
    ['network shop', 'network shop'],
    ['network-create -name network list', 'network-create --name network list'],
    ['-api-url=http://a network-list', '--api-url=http://a network-list'],
    ['network-show -n=shop', 'network-show --network=shop'],
    ['network-delete -rn shop', 'network-delete -rn shop'],
    ['help network-list', 'network-list --help'],
    ['help', '--help'],
    ['', ''],
  ])('%s → %s', (typed, words) => {
    expect(normalize(typed.split(' ').filter(Boolean))).toEqual(words.split(' ').filter(Boolean));
  });
});
