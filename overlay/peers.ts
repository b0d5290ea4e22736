/** Remote endpoints in one buffer: ten thousand of them cross to the kernel worker without being cloned one by one. */
import type { IpAddress } from '../model/scalars.js';
import { ipBytes, ipText, macBytes, macText } from './netlink/codec.js';
import type { RemotePeer } from './types.js';

// A record: length of the address, length of the VTEP, MAC, address, VTEP; room for IPv6 in both.
const RECORD_BYTES = 40;
const MAC_AT = 2;
const ADDRESS_AT = 8;
const VTEP_AT = 24;

export function packPeers(peers: readonly RemotePeer[]): Uint8Array {
  const packed = new Uint8Array(peers.length * RECORD_BYTES);
  // Hosts are few: the bytes of a VTEP are made once.
  const vteps = new Map<IpAddress, Buffer>();
  let at = 0;
  for (const { address, mac, vtep } of peers) {
    const ip = ipBytes(address);
    const host = vteps.get(vtep) ?? ipBytes(vtep);
    vteps.set(vtep, host);
    packed[at] = ip.length;
    packed[at + 1] = host.length;
    packed.set(macBytes(mac), at + MAC_AT);
    packed.set(ip, at + ADDRESS_AT);
    packed.set(host, at + VTEP_AT);
    at += RECORD_BYTES;
  }
  return packed;
}

export function unpackPeers(packed: Uint8Array): RemotePeer[] {
  const peers: RemotePeer[] = [];
  for (let at = 0; at + RECORD_BYTES <= packed.length; at += RECORD_BYTES) {
    const part = (from: number, length: number) => packed.subarray(at + from, at + from + length);
    peers.push({
      address: ipText(part(ADDRESS_AT, packed[at] ?? 4)),
      mac: macText(part(MAC_AT, 6)),
      vtep: ipText(part(VTEP_AT, packed[at + 1] ?? 4)),
    });
  }
  return peers;
}
