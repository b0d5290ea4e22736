/** The interface of the host that carries the VTEP address, and so every packet between hosts. */
import { NotFoundError } from '../model/errors.js';
import { addressOf, type IpAddress } from '../model/scalars.js';
import { getAddresses, parseAddress } from './netlink/address.js';
import type { Conn } from './netlink/conn.js';
import { RTNLGRP_IPV4_IFADDR, RTNLGRP_LINK } from './netlink/constants.js';
import { getLinkAt, parseLink } from './netlink/link.js';
import { openAnnouncements } from './netlink/socket.js';
import type { Underlay } from './types.js';

/** A loopback VTEP, on a machine without a network, would promise packets that VXLAN cannot carry. */
const LOOPBACK_MTU_MAX = 65_535 - 50;

/** Readable when what `underlayAt` found may be otherwise now. Of the namespace that the thread is in. */
export const openUnderlayNews = () => openAnnouncements([RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR]);

/** @throws NotFoundError when no interface has the address. */
export function underlayAt(vtep: IpAddress, host: Conn): Underlay {
  const found = host.dump(getAddresses).flatMap(message => parseAddress(message) ?? []);
  const carrier = found.find(({ address }) => addressOf(address) === vtep);
  // That one alone: a host of many containers has hundreds.
  const asked = carrier ? [getLinkAt(carrier.index)] : [];
  const [link] = host.run(asked).flatMap(message => parseLink(message) ?? []);
  if (!link) {
    const what = `No interface of this host has the VTEP address ${vtep}; correct PEER_IP or add the address`;
    throw new NotFoundError(what, { vtep });
  }
  return { ifName: link.name, mtu: Math.min(link.mtu, LOOPBACK_MTU_MAX) };
}
