/** Requests about bridges and their ports. */
import type { IfName, MacAddress } from '../../model/scalars.js';
import { macBytes, type Writer } from './codec.js';
import type { Request } from './conn.js';
import * as k from './constants.js';

/**
 * Without multicast snooping: with it the kernel sets timers of all ports whenever one comes, goes or has a carrier.
 * Like: ip link add NAME index INDEX address MAC mtu MTU type bridge mcast_snooping 0; up
 */
export const newBridge = (name: IfName, index: number, mac: MacAddress, mtu: number): Request => ({
  type: k.RTM_NEWLINK,
  flags: k.NLM_F_CREATE | k.NLM_F_EXCL,
  what: `link add ${name} type bridge`,
  write: writer =>
    noSnooping(
      writer
        .ifinfo(index, true)
        .attributeText(k.IFLA_IFNAME, name)
        .attribute(k.IFLA_ADDRESS, macBytes(mac))
        .attributeU32(k.IFLA_MTU, mtu),
    ),
});

/** Like: ip link set dev DEV type bridge mcast_snooping 0 */
export const setNoSnooping = (index: number): Request => ({
  type: k.RTM_NEWLINK,
  flags: 0,
  what: `link set index ${index} type bridge mcast_snooping 0`,
  write: writer => noSnooping(writer.ifinfo(index)),
});

const noSnooping = (writer: Writer) =>
  writer.nested(k.IFLA_LINKINFO, info =>
    info
      .attributeText(k.IFLA_INFO_KIND, 'bridge')
      .nested(k.IFLA_INFO_DATA, data => data.attributeU8(k.IFLA_BR_MCAST_SNOOPING, 0)),
  );

/** Like: ip link set dev NAME type bridge_slave learning off flood on|off */
export const setPort = (at: { index?: number; name?: IfName }, unicastFlood: boolean): Request => ({
  // NEWLINK, though the port exists: SETLINK does not read a port's settings.
  type: k.RTM_NEWLINK,
  flags: 0,
  what: `link set dev ${at.name ?? at.index} type bridge_slave learning off`,
  write: writer => {
    writer.ifinfo(at.index ?? 0);
    if (at.name) writer.attributeText(k.IFLA_IFNAME, at.name);
    writer.nested(k.IFLA_LINKINFO, info =>
      info
        .attributeText(k.IFLA_INFO_SLAVE_KIND, 'bridge')
        .nested(k.IFLA_INFO_SLAVE_DATA, data =>
          data
            .attributeU8(k.IFLA_BRPORT_LEARNING, 0)
            .attributeU8(k.IFLA_BRPORT_UNICAST_FLOOD, unicastFlood ? 1 : 0),
        ),
    );
  },
});
