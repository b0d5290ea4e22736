/** Requests about interfaces: each function is one message, and says its like in `ip`. */
import type { IfName, IpAddress, MacAddress } from '../../model/scalars.js';
import {
  attributesOf,
  ipBytes,
  ipText,
  type Message,
  macBytes,
  macText,
  nestedOf,
  textOf,
  u8Of,
  u32Of,
  type Writer,
} from './codec.js';
import type { Request } from './conn.js';
import * as k from './constants.js';

const NEW = k.NLM_F_CREATE | k.NLM_F_EXCL;

export interface VxlanSettings {
  readonly vni: number;
  readonly local: IpAddress;
  readonly port: number;
  readonly udpChecksum: boolean;
}

export interface Link {
  readonly index: number;
  readonly name: IfName;
  readonly kind: string;
  readonly mac: MacAddress | undefined;
  readonly mtu: number;
  readonly up: boolean;
  readonly master: number;
  readonly group: number;
  /** What somebody has written on it; empty: nothing. */
  readonly alias: string;
  /** Index of a veth's other end, or of the device that a macvlan is on, in the namespace that it is in. */
  readonly peer: number;
  /** That namespace, by its number in the socket's; undefined: the same. */
  readonly peerNsid: number | undefined;
  /** Of a bridge: whether it looks into multicasts. */
  readonly snooping: boolean | undefined;
  /** As a bridge's port. */
  readonly port: { readonly learning: boolean; readonly unicastFlood: boolean } | undefined;
  readonly vxlan:
    | (Partial<VxlanSettings> & { readonly learning: boolean; readonly proxy: boolean })
    | undefined;
}

/** Like: ip link show */
export const getLinks: Request = {
  type: k.RTM_GETLINK,
  flags: 0,
  what: 'link show',
  write: writer => writer.ifinfo(0).attributeU32(k.IFLA_EXT_MASK, k.RTEXT_FILTER_SKIP_STATS),
};

/** Like: ip link show dev NAME. ENODEV: there is none, answered by nothing. */
export const getLink = (name: IfName): Request => ({
  type: k.RTM_GETLINK,
  flags: 0,
  what: `link show dev ${name}`,
  expected: [k.ENODEV],
  write: writer => writer.ifinfo(0).attributeText(k.IFLA_IFNAME, name),
});

/** Like: ip link show of an index. ENODEV: there is none, answered by nothing. */
export const getLinkAt = (index: number, nsid?: number): Request => ({
  type: k.RTM_GETLINK,
  flags: 0,
  what: `link show index ${index}`,
  expected: [k.ENODEV],
  write: writer => {
    writer.ifinfo(index);
    if (nsid !== undefined) writer.attributeU32(k.IFLA_TARGET_NETNSID, nsid);
  },
});

/**
 * A VXLAN made from the sending socket's namespace into another: its UDP socket stays behind.
 * Like: ip link add NAME netns NS mtu MTU type vxlan id VNI local IP dstport PORT nolearning proxy; master; up
 */
export const newVxlan = (
  name: IfName,
  place: { readonly netns: number; readonly index: number; readonly master: number; readonly mtu: number },
  vxlan: VxlanSettings,
): Request => ({
  type: k.RTM_NEWLINK,
  flags: NEW,
  what: `link add ${name} type vxlan id ${vxlan.vni} dstport ${vxlan.port} local ${vxlan.local}`,
  write: writer =>
    writer
      .ifinfo(place.index, true)
      .attributeText(k.IFLA_IFNAME, name)
      .attributeU32(k.IFLA_MTU, place.mtu)
      .attributeU32(k.IFLA_NET_NS_FD, place.netns)
      .attributeU32(k.IFLA_MASTER, place.master)
      .nested(k.IFLA_LINKINFO, info =>
        info.attributeText(k.IFLA_INFO_KIND, 'vxlan').nested(k.IFLA_INFO_DATA, data => {
          writeLocal(data.attributeU32(k.IFLA_VXLAN_ID, vxlan.vni), vxlan.local)
            .attributeU8(k.IFLA_VXLAN_LEARNING, 0)
            .attributeU8(k.IFLA_VXLAN_PROXY, 1)
            .attributeU8(k.IFLA_VXLAN_UDP_CSUM, vxlan.udpChecksum ? 1 : 0)
            .attribute(k.IFLA_VXLAN_PORT, Buffer.from([vxlan.port >> 8, vxlan.port & 0xff]));
        }),
      ),
});

function writeLocal(writer: Writer, local: IpAddress): Writer {
  const bytes = ipBytes(local);
  return writer.attribute(bytes.length === 4 ? k.IFLA_VXLAN_LOCAL : k.IFLA_VXLAN_LOCAL6, bytes);
}

/** Changes a living VXLAN: the message may carry its id and what changes, nothing else. */
const changeVxlan = (index: number, vni: number, what: string, write: (data: Writer) => void): Request => ({
  type: k.RTM_NEWLINK,
  flags: 0,
  what: `link set index ${index} type vxlan ${what}`,
  write: writer =>
    writer
      .ifinfo(index)
      .nested(k.IFLA_LINKINFO, info =>
        info
          .attributeText(k.IFLA_INFO_KIND, 'vxlan')
          .nested(k.IFLA_INFO_DATA, data => write(data.attributeU32(k.IFLA_VXLAN_ID, vni))),
      ),
});

/** Like: ip link set dev DEV type vxlan id VNI nolearning */
export const setNoLearning = (index: number, vni: number) =>
  changeVxlan(index, vni, 'nolearning', data => data.attributeU8(k.IFLA_VXLAN_LEARNING, 0));

/** Like: ip link set dev DEV type vxlan id VNI local IP */
export const setLocal = (index: number, vni: number, local: IpAddress) =>
  changeVxlan(index, vni, `local ${local}`, data => writeLocal(data, local));

export interface VethEnd {
  readonly name: IfName;
  readonly mac?: MacAddress | undefined;
}

/**
 * A veth pair whose near end is a port of `master` in the socket's namespace, and whose far end is made in another. Both
 * are down: the kernel refuses to make the far one up (ENOTCONN), and to the bridge a near one without a carrier is news
 * of its own.
 * Like: ip link add NEAR address MAC mtu MTU master BR type veth peer name FAR address MAC mtu MTU netns NS
 */
export const newVeth = (
  near: VethEnd,
  far: VethEnd & { readonly netns: number },
  { master, mtu }: { readonly master: number; readonly mtu: number },
): Request => ({
  type: k.RTM_NEWLINK,
  flags: NEW,
  what: `link add ${near.name} type veth peer name ${far.name}`,
  write: writer => {
    writer
      .ifinfo(0)
      .attributeText(k.IFLA_IFNAME, near.name)
      .attributeU32(k.IFLA_MTU, mtu)
      .attributeU32(k.IFLA_MASTER, master);
    if (near.mac) writer.attribute(k.IFLA_ADDRESS, macBytes(near.mac));
    writer.nested(k.IFLA_LINKINFO, info =>
      info.attributeText(k.IFLA_INFO_KIND, 'veth').nested(k.IFLA_INFO_DATA, data =>
        data.nested(k.VETH_INFO_PEER, peer => {
          peer.ifinfo(0).attributeText(k.IFLA_IFNAME, far.name).attributeU32(k.IFLA_MTU, mtu);
          if (far.mac) peer.attribute(k.IFLA_ADDRESS, macBytes(far.mac));
          peer.attributeU32(k.IFLA_NET_NS_FD, far.netns);
        }),
      ),
    );
  },
});

export interface LinkChange {
  readonly up?: boolean;
  readonly mtu?: number;
  readonly master?: number;
  readonly group?: number;
  readonly rename?: IfName;
  readonly mac?: MacAddress;
  readonly alias?: string;
}

/** Like: ip link set dev DEV up|down mtu MTU master BR group GROUP name NAME alias ALIAS address MAC */
export const setLink = (at: { index?: number; name?: IfName }, change: LinkChange): Request => ({
  type: k.RTM_SETLINK,
  flags: 0,
  get what() {
    return `link set dev ${at.name ?? at.index} ${Object.entries(change).flat().join(' ')}`;
  },
  write: writer => {
    writer.ifinfo(at.index ?? 0, change.up);
    if (at.name) writer.attributeText(k.IFLA_IFNAME, at.name);
    if (change.mtu !== undefined) writer.attributeU32(k.IFLA_MTU, change.mtu);
    if (change.master !== undefined) writer.attributeU32(k.IFLA_MASTER, change.master);
    if (change.group !== undefined) writer.attributeU32(k.IFLA_GROUP, change.group);
    if (change.rename !== undefined) writer.attributeText(k.IFLA_IFNAME, change.rename);
    if (change.alias !== undefined) writer.attribute(k.IFLA_IFALIAS, Buffer.from(change.alias));
    if (change.mac !== undefined) writer.attribute(k.IFLA_ADDRESS, macBytes(change.mac));
  },
});

/**
 * Like: ip link del dev DEV. The kernel holds the caller for 16 to 56 ms.
 * @param at `nsid`: in the namespace that has this number in the socket's
 */
export const delLink = (at: { index?: number; name?: IfName; nsid?: number | undefined }): Request => ({
  type: k.RTM_DELLINK,
  flags: 0,
  what: `link del dev ${at.name ?? at.index}`,
  expected: [k.ENODEV],
  write: writer => {
    writer.ifinfo(at.index ?? 0);
    if (at.name) writer.attributeText(k.IFLA_IFNAME, at.name);
    if (at.nsid !== undefined) writer.attributeU32(k.IFLA_TARGET_NETNSID, at.nsid);
  },
});

/** Like: ip link del group GROUP: all of them for the wait of one. */
export const delGroup = (group: number, nsid?: number): Request => ({
  type: k.RTM_DELLINK,
  flags: 0,
  what: `link del group ${group}`,
  expected: [k.ENODEV],
  write: writer => {
    writer.ifinfo(0).attributeU32(k.IFLA_GROUP, group);
    if (nsid !== undefined) writer.attributeU32(k.IFLA_TARGET_NETNSID, nsid);
  },
});

/** Of a link that comes or goes; 0: none. */
export const groupOf = (payload: Buffer) => u32Of(attributesOf(payload, 16).get(k.IFLA_GROUP)) ?? 0;

/** A link of a dump or an answer; undefined for any other message. */
export function parseLink(message: Message): Link | undefined {
  if (message.type !== k.RTM_NEWLINK) return undefined;
  const attributes = attributesOf(message.payload, 16);
  const info = nestedOf(attributes.get(k.IFLA_LINKINFO));
  const kind = textOf(info.get(k.IFLA_INFO_KIND));
  const mac = attributes.get(k.IFLA_ADDRESS);
  return {
    index: message.payload.readInt32LE(4),
    up: (message.payload.readUInt32LE(8) & k.IFF_UP) !== 0,
    name: textOf(attributes.get(k.IFLA_IFNAME)) as IfName,
    kind,
    mac: mac?.length === 6 ? macText(mac) : undefined,
    mtu: u32Of(attributes.get(k.IFLA_MTU)) ?? 0,
    master: u32Of(attributes.get(k.IFLA_MASTER)) ?? 0,
    group: u32Of(attributes.get(k.IFLA_GROUP)) ?? 0,
    alias: textOf(attributes.get(k.IFLA_IFALIAS)),
    peer: u32Of(attributes.get(k.IFLA_LINK)) ?? 0,
    peerNsid: attributes.get(k.IFLA_LINK_NETNSID)?.readInt32LE(0),
    snooping: kind === 'bridge' ? parseSnooping(info.get(k.IFLA_INFO_DATA)) : undefined,
    port:
      textOf(info.get(k.IFLA_INFO_SLAVE_KIND)) === 'bridge'
        ? parsePort(info.get(k.IFLA_INFO_SLAVE_DATA))
        : undefined,
    vxlan: kind === 'vxlan' ? parseVxlan(info.get(k.IFLA_INFO_DATA)) : undefined,
  };
}

const parseSnooping = (bytes: Buffer | undefined) =>
  u8Of(nestedOf(bytes).get(k.IFLA_BR_MCAST_SNOOPING)) !== 0;

function parsePort(bytes: Buffer | undefined): Link['port'] {
  const data = nestedOf(bytes);
  return {
    learning: u8Of(data.get(k.IFLA_BRPORT_LEARNING)) !== 0,
    unicastFlood: u8Of(data.get(k.IFLA_BRPORT_UNICAST_FLOOD)) !== 0,
  };
}

function parseVxlan(bytes: Buffer | undefined): Link['vxlan'] {
  const data = nestedOf(bytes);
  const local = data.get(k.IFLA_VXLAN_LOCAL) ?? data.get(k.IFLA_VXLAN_LOCAL6);
  const vni = u32Of(data.get(k.IFLA_VXLAN_ID));
  const port = data.get(k.IFLA_VXLAN_PORT)?.readUInt16BE(0);
  return {
    ...(vni === undefined ? {} : { vni }),
    ...(port === undefined ? {} : { port }),
    ...(local ? { local: ipText(local) } : {}),
    learning: u8Of(data.get(k.IFLA_VXLAN_LEARNING)) !== 0,
    proxy: u8Of(data.get(k.IFLA_VXLAN_PROXY)) !== 0,
  };
}
