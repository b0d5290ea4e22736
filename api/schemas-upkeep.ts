/** What /verify, /repair and /gc answer. */
import * as z from 'zod';
import type { Difference } from '../engine/difference.js';
import type { Leak } from '../engine/gc.js';

export { NoQuery } from './schemas.js';

export const DifferenceAnswer = z.object({
  area: z.enum(['truth', 'addresses', 'kernel', 'limits']).meta({
    description: "Where: in etcd's records, in the addresses, in the kernel of the agent's host, at a limit",
  }),
  kind: z.string().meta({ description: 'docs/verify.md explains each' }),
  text: z.string().meta({ description: 'What is so, with the ids' }),
  network_id: z.string().nullable(),
  endpoint_id: z.string().nullable(),
  address: z.string().nullable(),
  key: z.string().nullable().meta({ description: 'In etcd' }),
});
export type DifferenceJson = Readonly<z.infer<typeof DifferenceAnswer>>;

export const LeakAnswer = z.object({
  network_id: z.string(),
  address: z.string(),
  kind: z.string(),
  text: z.string().meta({ description: 'Why it is taken for nobody' }),
  host: z.string().nullable(),
  since: z.string().nullable(),
  state: z
    .enum(['leaked', 'returned', 'kept'])
    .meta({ description: 'leaked: POST /gc would return it; kept: not to be returned here or now' }),
  because: z.string().nullable(),
});
export type LeakJson = Readonly<z.infer<typeof LeakAnswer>>;

export const differenceJson = (found: Difference): DifferenceJson => ({
  area: found.area,
  kind: found.kind,
  text: found.text,
  network_id: found.networkId ?? null,
  endpoint_id: found.endpointId ?? null,
  address: found.address ?? null,
  key: found.key ?? null,
});

export const leakJson = ({ finding, outcome }: Leak): LeakJson => ({
  network_id: finding.networkId,
  address: finding.address,
  kind: finding.fault,
  text: finding.text,
  host: finding.host ?? null,
  since: finding.since?.toISOString() ?? null,
  state: outcome.state,
  because: outcome.state === 'kept' ? outcome.because : null,
});
