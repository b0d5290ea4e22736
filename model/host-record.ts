/** What etcd knows of a host: a record that lasts, and a presence that lives as long as its agent renews it. */
import * as z from 'zod';
import { scalar } from './records.js';
import { parseHostName, parseIpAddress } from './scalars.js';

const text = z.string();

export const HostRecord = z.object({
  hostname: scalar(value => parseHostName(value)),
  /** Of the state directory that the agent has: another one is another host, whatever its name. */
  identity: text,
  vtep: scalar(value => parseIpAddress(value, 'vtep')),
  api_hostname: text.default(''),
  version: text.default(''),
  /** When a host of this name and identity was first seen. */
  since: text,
  /** Since when it takes no new endpoints. */
  draining_since: text.optional(),
  /** When an operator declared it gone; ends with its return. */
  removed_at: text.optional(),
});
/** Ours, `network.hosts/<hostname>`. */
export type HostRecord = Readonly<z.infer<typeof HostRecord>>;

export const Presence = z.object({
  hostname: scalar(value => parseHostName(value)),
  identity: text,
  /** One per process: of two that share an identity, the newer has it. */
  instance: text,
  vtep: scalar(value => parseIpAddress(value, 'vtep')),
  /** When the agent stopped as it should: whoever comes next need not wait for the lease to end. */
  left_at: text.optional(),
});
/** Ours, `network.presence/<hostname>`, with a lease. */
export type Presence = Readonly<z.infer<typeof Presence>>;
