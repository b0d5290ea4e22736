/** Docker's requests to a remote network and IPAM driver, as libnetwork sends them (docker 20.10, API 1.41). */
import * as z from 'zod';

const text = z.string();
/** Docker's are hexadecimal, Swarm's base 36. They are parts of keys in etcd: a slash would make another key. */
const id = z.string().max(128).regex(/^\w+$/, 'must be an id as Docker makes them, of letters and digits');
const poolId = z.string().min(1).max(128);
/** Docker leaves out, or sends null for, a map without entries. */
const map = z
  .record(z.string(), z.unknown())
  .nullish()
  .transform(value => value ?? {});
const stringMap = z
  .record(z.string(), z.string())
  .nullish()
  .transform(value => value ?? {});

const PoolData = z.object({
  AddressSpace: text.default(''),
  Pool: text,
  Gateway: text.default(''),
  AuxAddresses: stringMap,
});
export type PoolData = z.infer<typeof PoolData>;
const pools = z
  .array(PoolData)
  .nullish()
  .transform(value => value ?? []);

export const CreateNetwork = z.object({ NetworkID: id, Options: map, IPv4Data: pools, IPv6Data: pools });
export const NetworkOnly = z.object({ NetworkID: id });
export const CreateEndpoint = z.object({
  NetworkID: id,
  EndpointID: id,
  Interface: z
    .object({ Address: text.default(''), AddressIPv6: text.default(''), MacAddress: text.default('') })
    .nullish()
    .transform(value => value ?? { Address: '', AddressIPv6: '', MacAddress: '' }),
  Options: map,
});
export const EndpointOnly = z.object({ NetworkID: id, EndpointID: id });
export const Join = z.object({
  NetworkID: id,
  EndpointID: id,
  SandboxKey: z.string().min(1).max(4095),
  Options: map,
});

export const RequestPool = z.object({
  AddressSpace: text.default(''),
  Pool: text.default(''),
  SubPool: text.default(''),
  Options: stringMap,
  V6: z.boolean().default(false),
});
export const PoolOnly = z.object({ PoolID: poolId });
export const RequestAddress = z.object({ PoolID: poolId, Address: text.default(''), Options: stringMap });
export const ReleaseAddress = z.object({ PoolID: poolId, Address: text.min(1) });
