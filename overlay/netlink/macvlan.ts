/** Requests about macvlans, which are in other namespaces than the socket. */
import type { IfName, MacAddress } from '../../model/scalars.js';
import { macBytes } from './codec.js';
import type { Request } from './conn.js';
import * as k from './constants.js';

export interface MacvlanPlace {
  /** Index of the device that it is on, in the socket's namespace. */
  readonly on: number;
  /** Where it is to be; undefined: in the socket's namespace. */
  readonly netns?: number | undefined;
  /** Undefined: the kernel's choice. */
  readonly index?: number;
  readonly mtu: number;
}

/** Like: ip link add NAME index INDEX link DEV netns NS address MAC mtu MTU type macvlan mode bridge */
export const newMacvlan = (name: IfName, mac: MacAddress, place: MacvlanPlace): Request => ({
  type: k.RTM_NEWLINK,
  flags: k.NLM_F_CREATE | k.NLM_F_EXCL,
  what: `link add ${name} type macvlan`,
  write: writer => {
    writer
      .ifinfo(place.index ?? 0)
      .attributeText(k.IFLA_IFNAME, name)
      .attribute(k.IFLA_ADDRESS, macBytes(mac))
      .attributeU32(k.IFLA_MTU, place.mtu)
      .attributeU32(k.IFLA_LINK, place.on);
    if (place.netns !== undefined) writer.attributeU32(k.IFLA_NET_NS_FD, place.netns);
    writer.nested(k.IFLA_LINKINFO, info =>
      info
        .attributeText(k.IFLA_INFO_KIND, 'macvlan')
        .nested(k.IFLA_INFO_DATA, data => data.attributeU32(k.IFLA_MACVLAN_MODE, k.MACVLAN_MODE_BRIDGE)),
    );
  },
});

/** Like: ip link show type macvlan, in the namespace with that number. */
export const getMacvlansIn = (nsid: number): Request => ({
  type: k.RTM_GETLINK,
  flags: 0,
  what: 'link show type macvlan',
  write: writer =>
    writer
      .ifinfo(0)
      .attributeU32(k.IFLA_TARGET_NETNSID, nsid)
      .attributeU32(k.IFLA_EXT_MASK, k.RTEXT_FILTER_SKIP_STATS)
      .nested(k.IFLA_LINKINFO, info => info.attributeText(k.IFLA_INFO_KIND, 'macvlan')),
});
