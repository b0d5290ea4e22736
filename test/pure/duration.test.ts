import { parseDuration, showDuration } from '../../cli/duration.js';

it.each([
  ['30s', 30_000],
  ['1m', 60_000],
  ['1m30s', 90_000],
  ['1.5h', 5_400_000],
  ['2h45m30.5s', 9_930_500],
  ['500ms', 500],
  ['1500us', 1.5],
  ['250µs', 0.25],
  ['2', 2_000],
  ['0', 0],
])('parseDuration(%j) is %d ms', (text, ms) => {
  expect(parseDuration(text)).toBeCloseTo(ms, 6);
});

it.each(['', 'soon', '-1s', '1x', '1m 30s', 's', '1s!', '1m30', '1..5s', 'Infinity'])(
  'parseDuration(%j) is refused with the name of the field',
  text => {
    expect(() => parseDuration(text, '--timeout')).toThrow(
      `--timeout is ${text}; it must be a duration such as 30s or 1m30s`,
    );
  },
);

it.each([
  [-5, '0 s'],
  [999, '0 s'],
  [1_000, '1 s'],
  [61_000, '1 min 1 s'],
  [3_600_000, '1 h'],
  [11_525_000, '3 h 12 min'],
  [90_000_000, '1 d 1 h'],
])('showDuration(%d) is %s', (ms, text) => {
  expect(showDuration(ms)).toBe(text);
});
