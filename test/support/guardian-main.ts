/** The guardian's program: see guardian.ts. Reads claims until its input ends, then sweeps those not yet released. */
import { createInterface } from 'node:readline';
import type { GuardianLine } from './guardian.js';
import { type Claim, sweep } from './sweep.js';

const open = new Map<number, Claim>();
for await (const text of createInterface({ input: process.stdin })) {
  const { id, claim } = JSON.parse(text) as GuardianLine;
  if (claim) open.set(id, claim);
  else open.delete(id);
}
for (const claim of open.values()) {
  await sweep(claim).catch((error: Error) => process.stderr.write(`${error.message}\n`));
}
