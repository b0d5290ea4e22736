/** This host, as the engine knows it, and the names that follow from ids. */
import { createHash } from 'node:crypto';
import type { DataPlane } from '../model/data-plane.js';
import {
  type EndpointId,
  type HostName,
  type IfName,
  type IpAddress,
  invalid,
  type MacAddress,
  type NetnsPath,
  type NetworkId,
} from '../model/scalars.js';

export interface HostSettings {
  readonly name: HostName;
  /** VTEP address: outer source of all packets, and where other hosts send theirs. */
  readonly vtep: IpAddress;
  /** Under which other agents reach this agent's API; may be empty. */
  readonly apiHostname: string;
  /** Directory of the overlay namespaces' files. */
  readonly netnsPath: string;
  readonly netnsPrefix: string;
  readonly vxlanPort: number;
  readonly vxlanChecksum: boolean;
  readonly maxVni: number;
  /** Of new networks that do not say. */
  readonly dataPlane: DataPlane;
}

/** What VXLAN adds to a packet on an IPv4 underlay: 14 Ethernet, 8 VXLAN, 8 UDP, 20 IP (RFC 7348 section 5). */
export const VXLAN_OVERHEAD = 50;

export const netnsOf = (host: HostSettings, id: NetworkId) =>
  `${host.netnsPath}/${host.netnsPrefix}${id}` as NetnsPath;

// 44 bits of the id after "sand", 40 after "sandt": 15 characters, IFNAMSIZ is 16 with its NUL (linux/if.h).
const hex = (id: EndpointId) => id.replaceAll('-', '');
/** The end of an endpoint's veth pair in the overlay namespace. */
export const overlayVethOf = (id: EndpointId) => `sand${hex(id).slice(0, 11)}` as IfName;
/** Its MAC, locally administered: other agents tell interfaces by name and MAC. */
export const overlayMacOf = (id: EndpointId) =>
  `06:${hex(id)
    .slice(0, 10)
    .replace(/..(?!$)/g, '$&:')}` as MacAddress;
/** The other end, until Docker has moved and renamed it. */
export const targetVethOf = (id: EndpointId) => `sandt${hex(id).slice(0, 10)}` as IfName;

/**
 * Our id of a Docker endpoint: a pure function of Docker's, so that a repeated or late call finds the endpoint
 * without a look-up. Shaped as the UUID v4 that clients expect.
 */
export function endpointIdOf(dockerEndpointId: string): EndpointId {
  if (!/^[0-9a-zA-Z][0-9a-zA-Z_.-]{0,127}$/.test(dockerEndpointId)) {
    throw invalid('EndpointID', dockerEndpointId, 'an id of 1 to 128 letters and digits');
  }
  const digest = createHash('sha256').update(dockerEndpointId).digest();
  digest.writeUInt8((digest.readUInt8(6) & 0x0f) | 0x40, 6);
  digest.writeUInt8((digest.readUInt8(8) & 0x3f) | 0x80, 8);
  const text = digest.toString('hex', 0, 16);
  const parts = [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)];
  return parts.join('-') as EndpointId;
}
