/** What interfaces in targets are called, by every agent: sand0, sand1, … */
import type { IfName } from '../model/scalars.js';

const PREFIX = 'sand';

export const isTargetName = (name: string) => /^sand\d+$/.test(name);

/** The first name that is not among those taken. */
export function freeTargetName(taken: Iterable<IfName>): IfName {
  const names = new Set<string>(taken);
  for (let n = 0; ; n++) if (!names.has(`${PREFIX}${n}`)) return `${PREFIX}${n}` as IfName;
}
