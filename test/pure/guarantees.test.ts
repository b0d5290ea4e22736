import { existsSync, readFileSync } from 'node:fs';

const page = readFileSync('docs/guarantees.md', 'utf8');
const named = [...page.matchAll(/`((?:pure|etcd|kernel|docker|faults)\/[a-z-]+)`/g)].map(
  ([, name]) => name ?? '',
);

describe('docs/guarantees.md', () => {
  it('names tests', () => {
    expect(new Set(named).size).toBeGreaterThan(15);
  });

  it.each([...new Set(named)])('%s exists', name => {
    expect(existsSync(`test/${name}.test.ts`)).toBe(true);
  });

  it('names one in every line of its tables', () => {
    const rows = page.split('\n').filter(line => /^\| (?!promise|---)/.test(line));
    expect(rows.filter(row => !/`(\w+\/[a-z-]+|make fuzz)`|the soak/.test(row))).toEqual([]);
  });
});
