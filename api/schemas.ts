/** What the HTTP API takes and answers. The requests are checked with these, and the OpenAPI document is made of them. */
import * as z from 'zod';
import type { Host } from '../engine/hosts.js';
import { DATA_PLANES } from '../model/data-plane.js';
import * as records from '../model/records.js';
import {
  dataPlaneOf,
  type EndpointRecord,
  type Looks,
  mtuOf,
  type Network,
  scalar,
  UUID,
} from '../model/records.js';
import {
  parseHostName,
  parseInterfaceAddress,
  parseMacAddress,
  parseNetnsPath,
  parseNetworkId,
  parseNetworkName,
  parseVni,
  VNI_MAX,
} from '../model/scalars.js';

/** Clients of old send empty strings for what they leave open. */
const optional = <T>(parse: (value: unknown) => T, looks: Looks) =>
  scalar(value => (value === null || value === '' ? undefined : parse(value)), {
    anyOf: [looks, { type: 'null' }, { const: '' }],
  }).optional();

const text = (description: string): Looks => ({ type: 'string', description });

/** Text whose meaning depends on the network; read there. */
function asText(value: unknown): string {
  if (typeof value === 'string') return value;
  throw new TypeError('must be a string');
}

export const NetworkCreate = z.strictObject({
  id: optional(value => parseNetworkId(value, 'id'), { ...UUID, description: 'Default: a new one' }),
  name: optional(parseNetworkName, text('Default: net-sc- and the id; such as shop')),
  type: z.enum(['overlay', '']).nullish(),
  ip_range: optional(
    value => parseInterfaceAddress(value, 'ip_range'),
    text('Default: 10.0.0.0/24; such as 10.1.0.0/24'),
  ),
  gateway: optional(asText, text('Default: the first address of the range; such as 10.1.0.1/24')),
  mtu: z
    .number()
    .int()
    .min(68)
    .max(65_535)
    .nullish()
    .meta({ description: 'Default: what the underlay carries' }),
  dataplane: z
    .enum(['', ...DATA_PLANES])
    .nullish()
    .transform(value => value || undefined)
    .meta({ description: "How containers are reached on their hosts; default: the agent's" }),
  vxlan_vni: optional(value => parseVni(value), {
    type: 'integer',
    minimum: 1,
    maximum: VNI_MAX,
    description: 'Default: the lowest free one',
  }),
});

const ActivateParams = z.strictObject({
  ns_handle_path: optional(
    value => parseNetnsPath(value),
    text('A network namespace on the host of the agent; such as /var/run/netns/shop'),
  ),
  // Clients of the original send false without meaning it: it always moved the interface and gave it its address.
  set_addr: z.boolean().nullish(),
  move_veth: z.boolean().nullish(),
});

export const EndpointCreate = z.strictObject({
  network_id: scalar(value => parseNetworkId(value), UUID),
  activate: z.boolean().nullish().meta({ description: 'Whether an interface is made at once' }),
  activate_params: ActivateParams.nullish(),
  ipv4_address: optional(asText, text('Default: the lowest free one; such as 10.0.0.2')),
  mac_address: optional(
    value => parseMacAddress(value),
    text('Default: 02:84 and the address; such as 02:84:0a:00:00:02'),
  ),
});

export const EndpointQuery = z.strictObject({
  network_id: optional(value => parseNetworkId(value), UUID),
  hostname: optional(value => parseHostName(value), { type: 'string' }),
});

const yesOrNo = (description: string) =>
  z
    .enum(['true', 'false', '1', '0', ''])
    .optional()
    .transform(value => value === 'true' || value === '1')
    .meta({ description });

export const NetworkRemoval = z.strictObject({
  force: yesOrNo("Whether this host's endpoints, and those of hosts declared gone, are removed first"),
});

export const HostRemoval = z.strictObject({
  gone: yesOrNo('The machine is off: its endpoints are deleted and their addresses returned'),
});

export const HostChange = z.strictObject({
  draining: z.boolean().meta({ description: 'Whether the host takes no new endpoints' }),
});

export const NoQuery = z.strictObject({});

export const NetworkAnswer = records.NetworkRecord.extend({
  mtu: z.number().int().meta({ description: 'Of interfaces inside the network' }),
  dataplane: z.enum(DATA_PLANES).meta({ description: 'How containers are reached on their hosts' }),
});

export const EndpointAnswer = records.EndpointRecord;

export const HostAnswer = z.object({
  hostname: z.string(),
  state: z
    .enum(['living', 'gone', 'removed', 'unknown'])
    .meta({ description: 'removed: declared gone; unknown: an agent of the original, which does not say' }),
  gone_since: z.string().nullable().meta({ description: 'As far as the agent that answers knows' }),
  removed_at: z.string().nullable(),
  draining_since: z.string().nullable(),
  since: z.string().nullable().meta({ description: 'When it registered' }),
  identity: z.string().nullable(),
  vtep: z.string().nullable(),
  api_hostname: z.string(),
  version: z.string(),
  endpoints: z.number().int(),
});

export const StatusAnswer = z.object({
  version: z.string(),
  hostname: z.string(),
  identity: z.string().meta({ description: "Of this agent's state directory" }),
  name: z
    .object({ state: z.enum(['claiming', 'held', 'refused']), reason: z.string().nullable() })
    .meta({ description: 'Whether this agent has its host name; refused: it serves nothing else' }),
  hosts: z.object({
    living: z.number().int(),
    others: z.array(HostAnswer.pick({ hostname: true, state: true, gone_since: true })).meta({
      description: 'Hosts that are gone or declared gone',
    }),
  }),
  draining_since: z.string().nullable(),
  vtep: z.string().meta({ description: 'Outer address of this host' }),
  underlay: z.object({ interface: z.string(), mtu: z.number().int() }).nullable(),
  started_at: z.string(),
  etcd: z.object({ where: z.string(), answering: z.boolean(), revision: z.number().int() }),
  networks: z.number().int().meta({ description: 'In the whole cluster' }),
  local: z.object({
    networks: z.number().int(),
    endpoints: z.number().int(),
    active_endpoints: z.number().int(),
  }),
  reconcile: z.object({
    last_at: z.string().nullable(),
    repairs: z.number().int().meta({ description: 'Differences of the kernel mended since the start' }),
    pending_teardowns: z.number().int().meta({ description: 'Kept for when etcd is back' }),
  }),
});

export const ErrorAnswer = z.object({
  error: z.string().meta({ description: 'What is so, with the ids, and what would help' }),
  code: z.enum(['invalid', 'not-found', 'conflict', 'exhausted', 'unavailable', 'kernel']).optional(),
  details: z.record(z.string(), z.unknown()).optional(),
});

export const hostJson = ({ hostname, record, state, goneSince, endpoints }: Host): HostJson => ({
  hostname,
  state,
  gone_since: goneSince?.toISOString() ?? null,
  removed_at: record?.removed_at ?? null,
  draining_since: record?.draining_since ?? null,
  since: record?.since ?? null,
  identity: record?.identity ?? null,
  vtep: record?.vtep ?? null,
  api_hostname: record?.api_hostname ?? '',
  version: record?.version ?? '',
  endpoints,
});
export type HostJson = Readonly<z.infer<typeof HostAnswer>>;

export const networkJson = (network: Network) => ({
  ...network.record,
  mtu: mtuOf(network),
  dataplane: dataPlaneOf(network),
});
export type NetworkJson = ReturnType<typeof networkJson>;
export type EndpointJson = EndpointRecord;
export type StatusJson = Readonly<z.infer<typeof StatusAnswer>>;
