/**
 * An endpoint's record, as agents write it. A hundred thousand of them arrive at a start, and each change of the cluster
 * at every host: the schema's own check is most of that time. So they are checked here, by hand; whatever looks unusual
 * is left to the schema, which decides.
 */
import type { AddressSource, EndpointRecord } from '../model/records.js';
import { type InterfaceAddress, type IpAddress, isHostName, type MacAddress } from '../model/scalars.js';
import type { FollowedKey } from '../store/keys.js';

const OCTET = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)';
const IPV4 = `(?:${OCTET}\\.){3}${OCTET}`;
const ADDRESS = new RegExp(`^${IPV4}$`);
const INTERFACE = new RegExp(`^${IPV4}/(?:3[0-2]|[12]?\\d)$`);
/** Unicast: the lowest bit of the first octet is clear. */
const MAC = /^[0-9a-f][02468ace](?::[0-9a-f]{2}){5}$/;
const NO_MAC = '00:00:00:00:00:00';

type Unknown = Readonly<Partial<Record<keyof EndpointRecord, unknown>>>;
/** What stands in a record whatever wrote it; the rest may be absent. */
type Always = 'hostname' | 'host_ip' | 'created_at' | 'target_veth_mac' | 'target_veth_ip';
type Usual = Partial<EndpointRecord> & Pick<EndpointRecord, Always>;

/** Undefined: the schema has to look at it, because it is unusual or broken. */
export function readEndpoint(
  at: Extract<FollowedKey, { family: 'endpoint' }>,
  value: string,
): EndpointRecord | undefined {
  const record = parsed(value);
  if (record?.id !== at.endpoint || record.network_id !== at.network || !isUsual(record)) return undefined;
  const { docker } = record;
  return {
    id: at.endpoint,
    network_id: at.network,
    hostname: record.hostname,
    host_ip: record.host_ip,
    api_hostname: record.api_hostname ?? '',
    created_at: record.created_at,
    target_netns_path: record.target_netns_path ?? '',
    overlay_veth_name: record.overlay_veth_name ?? '',
    overlay_veth_mac: record.overlay_veth_mac ?? '',
    target_veth_name: record.target_veth_name ?? '',
    target_veth_mac: record.target_veth_mac,
    target_veth_ip: record.target_veth_ip,
    active: record.active ?? false,
    ...(docker ? { docker: dockerPart(docker) } : {}),
  };
}

/** Without what others may have added. */
const dockerPart = ({ endpoint_id, network_id, address_source }: NonNullable<EndpointRecord['docker']>) => ({
  endpoint_id,
  network_id,
  address_source,
});

function parsed(value: string): Unknown | undefined {
  try {
    const json: unknown = JSON.parse(value);
    return typeof json === 'object' && json !== null ? (json as Unknown) : undefined;
  } catch {
    return undefined;
  }
}

const isMac = (value: unknown): value is MacAddress =>
  typeof value === 'string' && MAC.test(value) && value !== NO_MAC;

const isAddress = (value: unknown): value is IpAddress => typeof value === 'string' && ADDRESS.test(value);

const isInterface = (value: unknown): value is InterfaceAddress =>
  typeof value === 'string' && INTERFACE.test(value);

const isText = (value: unknown) => value === undefined || typeof value === 'string';

const isUsual = (record: Unknown): record is Usual =>
  typeof record.hostname === 'string' &&
  isHostName(record.hostname) &&
  isAddress(record.host_ip) &&
  isText(record.api_hostname) &&
  typeof record.created_at === 'string' &&
  isText(record.target_netns_path) &&
  isText(record.overlay_veth_name) &&
  (record.overlay_veth_mac === undefined ||
    record.overlay_veth_mac === '' ||
    isMac(record.overlay_veth_mac)) &&
  isText(record.target_veth_name) &&
  isMac(record.target_veth_mac) &&
  isInterface(record.target_veth_ip) &&
  (record.active === undefined || typeof record.active === 'boolean') &&
  isDocker(record.docker);

function isDocker(value: unknown): value is EndpointRecord['docker'] {
  if (value === undefined) return true;
  if (typeof value !== 'object' || value === null) return false;
  const { endpoint_id, network_id, address_source } = value as Readonly<Record<string, unknown>>;
  return typeof endpoint_id === 'string' && typeof network_id === 'string' && isSource(address_source);
}

const isSource = (value: unknown): value is AddressSource =>
  value === 'sand-ipam' || value === 'sand-driver' || value === 'docker-ipam';
