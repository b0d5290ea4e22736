/** What the HTTP API takes; the record types are what it answers. */
import { z } from 'zod';
import { InvalidError } from '../model/errors.js';
import { scalar } from '../model/records.js';
import { parseInterfaceAddress, parseNetworkId, parseNetworkName } from '../model/scalars.js';

/** Clients of old send empty strings for what they leave open. */
const optional = <T>(parse: (value: unknown) => T) =>
  scalar(value => (value === null || value === '' ? undefined : parse(value))).optional();

export const NetworkCreate = z.object({
  id: optional(value => parseNetworkId(value, 'id')),
  name: optional(value => parseNetworkName(value)),
  type: z.enum(['overlay', '']).optional(),
  ip_range: optional(value => parseInterfaceAddress(value, 'ip_range')),
  gateway: optional(value => {
    if (typeof value !== 'string') throw new InvalidError('gateway must be a string such as 10.0.0.1/24');
    return value;
  }),
  mtu: z.number().int().min(68).max(65_535).optional(),
});
