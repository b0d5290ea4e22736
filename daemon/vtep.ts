/** Which address this host sends its packets from, when nobody says. */
import { createSocket } from 'node:dgram';
import { networkInterfaces } from 'node:os';
import { InvalidError } from '../model/errors.js';
import { type IpAddress, parseIpv4 } from '../model/scalars.js';

const ELSEWHERE = '192.0.2.1'; // TEST-NET-1 (RFC 5737): nobody's, so only the default route leads there

/** Docker makes them as containers come, so that what was the only address at one start would not be so at the next. */
const DOCKER_BRIDGE = /^(docker0|docker_gwbridge|br-[0-9a-f]{12})$/;

/** Source address of the default route: connecting a UDP socket asks the kernel and sends nothing. */
function sourceOfDefaultRoute(): Promise<IpAddress | undefined> {
  const socket = createSocket('udp4');
  return new Promise(resolve => {
    socket.once('error', () => resolve(undefined));
    socket.connect(9, ELSEWHERE, () => {
      const { address } = socket.address();
      // Without a route the kernel answers no address.
      resolve(address === '0.0.0.0' ? undefined : parseIpv4(address, 'PEER_IP'));
    });
  }).finally(() => socket.close()) as Promise<IpAddress | undefined>;
}

/**
 * The VTEP address: as told, else the source of the default route, else the only address there is.
 * @throws InvalidError when there is none to choose, or more than one.
 */
export async function chooseVtep(told: string | undefined): Promise<IpAddress> {
  if (told !== undefined) return parseIpv4(told, 'PEER_IP');
  const source = await sourceOfDefaultRoute();
  if (source) return source;
  const addresses = Object.entries(networkInterfaces())
    .flatMap(([name, list]) => (DOCKER_BRIDGE.test(name) ? [] : (list ?? [])))
    .filter(({ family, internal }) => family === 'IPv4' && !internal)
    .map(({ address }) => address);
  const [only, ...more] = addresses;
  if (only !== undefined && more.length === 0) return parseIpv4(only, 'PEER_IP');
  // A machine without any network can still connect its own containers.
  if (only === undefined) return parseIpv4('127.0.0.1', 'PEER_IP');
  throw new InvalidError(
    `There is no default route, and this host has ${addresses.join(', ')}: say which with PEER_IP or --peer-ip`,
  );
}
