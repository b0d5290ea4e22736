/**
 * An endpoint's record of another host, read for what the mirror keeps of it. A hundred thousand of them arrive at a
 * start, and each change of the cluster at every host: the schema's own check is most of that time. So records as
 * agents write them are checked here, by hand; whatever looks unusual is left to the schema, which decides.
 */
import type { EndpointRecord, Peer } from '../model/records.js';
import { type HostName, type IpAddress, isHostName, type MacAddress } from '../model/scalars.js';
import type { FollowedKey } from '../store/keys.js';

const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)$/;
const INTERFACE =
  /^((?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))\/(?:3[0-2]|[12]?\d)$/;
/** Unicast: the lowest bit of the first octet is clear. */
const MAC = /^[0-9a-f][02468ace](?::[0-9a-f]{2}){5}$/;
const NO_MAC = '00:00:00:00:00:00';

type Unknown = Readonly<Partial<Record<keyof EndpointRecord, unknown>>>;

/** Undefined: the schema has to look at it, because it is unusual, broken, or this host's own. */
export function readPeer(
  at: Extract<FollowedKey, { family: 'endpoint' }>,
  value: string,
  host: HostName,
): Peer | undefined {
  const record = parsed(value);
  if (record?.id !== at.endpoint || record.network_id !== at.network) return undefined;
  const { hostname, host_ip, target_veth_mac: mac, target_veth_ip } = record;
  if (typeof hostname !== 'string' || hostname === host || !isHostName(hostname)) return undefined;
  if (typeof host_ip !== 'string' || !IPV4.test(host_ip) || !isMac(mac) || !hasRest(record)) return undefined;
  const [, address] = typeof target_veth_ip === 'string' ? (INTERFACE.exec(target_veth_ip) ?? []) : [];
  if (address === undefined) return undefined;
  const [vtep, ip] = [host_ip as IpAddress, address as IpAddress];
  return { endpointId: at.endpoint, address: ip, mac, hostname, vtep };
}

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

const isText = (value: unknown) => value === undefined || typeof value === 'string';

/** What peers do not see of a record, and what would make it a broken one. */
const hasRest = (record: Unknown) =>
  typeof record.created_at === 'string' &&
  isText(record.api_hostname) &&
  isText(record.target_netns_path) &&
  isText(record.overlay_veth_name) &&
  isText(record.target_veth_name) &&
  (record.overlay_veth_mac === undefined ||
    record.overlay_veth_mac === '' ||
    isMac(record.overlay_veth_mac)) &&
  (record.active === undefined || typeof record.active === 'boolean') &&
  isDocker(record.docker);

function isDocker(value: unknown): boolean {
  if (value === undefined) return true;
  if (typeof value !== 'object' || value === null) return false;
  const { endpoint_id, network_id, address_source } = value as Readonly<Record<string, unknown>>;
  return typeof endpoint_id === 'string' && typeof network_id === 'string' && isSource(address_source);
}

const isSource = (value: unknown) =>
  value === 'sand-ipam' || value === 'sand-driver' || value === 'docker-ipam';
