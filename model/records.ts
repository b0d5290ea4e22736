/**
 * The objects of a SAND cluster as they stand in etcd and travel over the HTTP API: names and JSON keys are
 * fixed by what existing agents read and write. Unknown keys are ignored, ours are optional for everyone else.
 */
import * as z from 'zod';
import { DATA_PLANES, type DataPlane } from './data-plane.js';
import {
  type Cidr,
  type EndpointId,
  type HostName,
  type IpAddress,
  type MacAddress,
  type NetworkId,
  parseEndpointId,
  parseHostName,
  parseInterfaceAddress,
  parseIpAddress,
  parseMacAddress,
  parseNetworkId,
  parseVni,
  VNI_MAX,
} from './scalars.js';

/** How a scalar looks to others: keywords of JSON Schema, from which the API's document is made. */
export type Looks = Readonly<Record<string, unknown>>;
export const UUID: Looks = { type: 'string', format: 'uuid' };
const CIDR: Looks = { type: 'string', description: 'Such as 10.0.0.0/24' };
const INTERFACE_ADDRESS: Looks = { type: 'string', description: 'Such as 10.0.0.1/24' };
const VNI: Looks = { type: 'integer', minimum: 1, maximum: VNI_MAX };

/** A zod type made from a parse function of scalars.ts; the path that zod reports names the field. */
export const scalar = <T>(parse: (value: unknown) => T, looks: Looks = { type: 'string' }) =>
  z
    .unknown()
    .transform((value, context): T => {
      try {
        return parse(value);
      } catch (error) {
        context.addIssue({ code: 'custom', message: (error as Error).message });
        return z.NEVER;
      }
    })
    .meta(looks);

const text = z.string();

export const NetworkRecord = z.object({
  id: scalar(value => parseNetworkId(value, 'id'), UUID),
  created_at: text,
  name: text,
  type: text,
  ns_handle_path: text,
  vxlan_vni: scalar(value => parseVni(value), VNI),
  ip_range: scalar(value => parseInterfaceAddress(value, 'ip_range') as string as Cidr, CIDR),
  gateway: scalar(value => parseInterfaceAddress(value, 'gateway'), INTERFACE_ADDRESS),
});
/** `/network/<id>`: a network of the cluster. */
export type NetworkRecord = Readonly<z.infer<typeof NetworkRecord>>;

const optionalMac = scalar(value => (value === '' ? ('' as const) : parseMacAddress(value)));

/** How Docker came to the endpoint's address: it decides which call returns it. */
export const AddressSource = z.enum(['sand-ipam', 'sand-driver', 'docker-ipam']);
export type AddressSource = z.infer<typeof AddressSource>;

export const EndpointRecord = z.object({
  id: scalar(value => parseEndpointId(value, 'id'), UUID),
  network_id: scalar(value => parseNetworkId(value), UUID),
  hostname: scalar(value => parseHostName(value)),
  host_ip: scalar(value => parseIpAddress(value, 'host_ip')),
  api_hostname: text.default(''),
  created_at: text,
  target_netns_path: text.default(''),
  overlay_veth_name: text.default(''),
  overlay_veth_mac: optionalMac.default(''),
  target_veth_name: text.default(''),
  target_veth_mac: scalar(value => parseMacAddress(value, 'target_veth_mac')),
  target_veth_ip: scalar(value => parseInterfaceAddress(value, 'target_veth_ip'), INTERFACE_ADDRESS),
  active: z.boolean().default(false),
  /** Ours: present when Docker made the endpoint. */
  docker: z
    .object({ endpoint_id: text, network_id: text, address_source: AddressSource })
    .readonly()
    .optional(),
});
/** `/network-endpoints/<network>/<id>` and `/node-endpoints/<host>/<id>`: one member of a network. */
export type EndpointRecord = Readonly<z.infer<typeof EndpointRecord>>;

/** `/ipalloc/<network>`: the pool's bit set, encoded as existing agents do (`ipam/bitmap.ts`). */
export const PoolRecord = z.object({
  id: scalar(value => parseNetworkId(value, 'id')),
  address_range: scalar(value => parseInterfaceAddress(value, 'address_range') as string as Cidr),
  address_count: z.number().int().nonnegative(),
  bit_set: text,
});
export type PoolRecord = Readonly<z.infer<typeof PoolRecord>>;

/** Ours, beside the network's record: what the layout of old has no place for. */
export const NetworkAttributes = z.object({
  /** Bytes of the largest packet inside the network. Without attributes: 1450. */
  mtu: z.number().int().min(68).max(65_535),
  /** A network that Docker made goes with its last binding; one made through the API stays. */
  origin: z.enum(['api', 'docker']),
  /** Without it: bridge, as agents of the original have it. */
  dataplane: z.enum(DATA_PLANES).optional(),
});
export type NetworkAttributes = Readonly<z.infer<typeof NetworkAttributes>>;

/** Ours: a Docker network of one host that stands for a SAND network. */
export const BindingRecord = z.object({
  network_id: scalar(value => parseNetworkId(value)),
  hostname: scalar(value => parseHostName(value)),
  /** Bound by an agent of the original: which IPAM Docker uses there is not known. */
  inherited: z.boolean().optional(),
  /** Docker's network id, or `pending-<nonce>` between RequestPool and CreateNetwork. */
  docker_network_id: text,
  ipam: AddressSource,
  internal: z.boolean(),
  /** Whether containers reach the outside through Docker's gateway bridge. */
  egress: z.enum(['docker', 'none']),
  aux_addresses: z.array(scalar(value => parseIpAddress(value, 'aux_addresses'))).readonly(),
});
export type BindingRecord = Readonly<z.infer<typeof BindingRecord>>;

/** How the Docker network's id of a promise begins, which ends by its lease when Docker never comes back. */
export const PENDING = 'pending-';
export const isPending = ({ docker_network_id }: BindingRecord) => docker_network_id.startsWith(PENDING);

/** Ours: who holds an address. A taken bit without an owner belongs to the pool itself or to an older agent. */
export const AddressOwner = z.object({
  kind: z.enum(['endpoint', 'reservation', 'aux']),
  hostname: scalar(value => parseHostName(value)),
  /** One per change: a retried transaction recognises its own first try by it. */
  op: text,
  /** Milliseconds since the epoch, by the owner's clock. */
  at: z.number(),
  endpoint_id: scalar(value => parseEndpointId(value)).optional(),
});
export type AddressOwner = Readonly<z.infer<typeof AddressOwner>>;

/** Ours: what stands in a key of `vnis` and `names`. */
export const Claim = z.object({ network_id: scalar(value => parseNetworkId(value)) });
export type Claim = Readonly<z.infer<typeof Claim>>;
export const claimOf = (network: NetworkId): Claim => ({ network_id: network });

/** Ours: addresses that a host has taken ahead of need. */
export const SpareRecord = z.object({
  addresses: z.array(scalar(value => parseIpAddress(value))).readonly(),
});
export type SpareRecord = Readonly<z.infer<typeof SpareRecord>>;

/** What the mirror keeps of every endpoint in the cluster. */
export interface Peer {
  readonly endpointId: EndpointId;
  readonly address: IpAddress;
  readonly mac: MacAddress;
  readonly hostname: HostName;
  readonly vtep: IpAddress;
}

/** MTU of a network without attributes: what agents of the original use. */
export const LEGACY_MTU = 1450;

/** A network with what surrounds its record. */
export interface Network {
  readonly record: NetworkRecord;
  readonly attributes: NetworkAttributes | undefined;
}
/** What does not say otherwise is a bridge, to agents of every version. */
export const attributesWith = (
  dataPlane: DataPlane,
  rest: Omit<NetworkAttributes, 'dataplane'>,
): NetworkAttributes => (dataPlane === 'bridge' ? rest : { ...rest, dataplane: dataPlane });
export const dataPlaneOf = (network: Network): DataPlane => network.attributes?.dataplane ?? 'bridge';
export const mtuOf = (network: Network): number => network.attributes?.mtu ?? LEGACY_MTU;

export type { NetworkId };
