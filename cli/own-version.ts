import { readFileSync } from 'node:fs';

/** Of this package, `v0.1.0`. */
export const ownVersion = () =>
  `v${JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version}`;
