/** A TCP socket in somebody's namespace, for connections that the agent carries there. */
import type { IpAddress, NetnsPath } from '../model/scalars.js';
import { setLink } from './netlink/link.js';
import { closeFd, openTcpSocket } from './netlink/socket.js';
import { connIn, inside, Netns } from './netns.js';
import { LOOPBACK_INDEX } from './network.js';
import type { TcpRoute } from './types.js';

const LOCALHOST = '127.0.0.1' as IpAddress;

/** Undefined: the namespace is gone, or is not that of the endpoint with the address. */
export function openTcpSocketIn(
  path: NetnsPath,
  { from, to }: TcpRoute,
  home: Netns,
): { readonly fd: number } | undefined {
  const found = Netns.find(path);
  if (!found) return undefined;
  using netns = found;
  const fd = inside(netns, home, () => openTcpSocket(from));
  if (fd === undefined) return undefined;
  if (from === to) raiseLoopback(netns, home);
  return { fd };
}

/**
 * A namespace fresh from `ip netns add` does not reach its own addresses: its loopback is down, and without address.
 * Asked by a bind, since netlink would wait for the kernel's rtnl lock, here for each connection.
 */
function raiseLoopback(netns: Netns, home: Netns): void {
  const probe = inside(netns, home, () => openTcpSocket(LOCALHOST));
  if (probe !== undefined) {
    closeFd(probe);
    return;
  }
  using conn = connIn(netns, home);
  conn.run([setLink({ index: LOOPBACK_INDEX }, { up: true })]);
}
