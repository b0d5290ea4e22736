/** A network of the kernel tests, and hosts that have it. */
import type { DataPlane } from '../../model/data-plane.js';
import { Kernel } from '../../overlay/kernel.js';
import { packPeers } from '../../overlay/peers.js';
import type { PortTarget, RemotePeer, WantedNetwork, WantedPort } from '../../overlay/types.js';
import { TEST_DATA_PLANE } from '../support/data-plane.js';
import type { NetnsLab, TestNetns } from '../support/netns.js';

export const VNI = 4242;
export const PORT = 4789;
export const MTU = 1450;
const silent = () => undefined;
export const log = { debug: silent, info: silent, warn: silent, error: silent };

/** Host `n` of the lab, as an agent has it: its namespace, its kernel, and where it has the network. */
export interface TestHost {
  readonly netns: TestNetns;
  readonly kernel: Kernel;
  readonly overlay: TestNetns;
  readonly vtep: string;
  wanted(change?: {
    ports?: readonly WantedPort[];
    peers?: readonly RemotePeer[];
    vni?: number;
  }): WantedNetwork;
}

export async function startHost(
  lab: NetnsLab,
  netns: TestNetns,
  n: number,
  dataPlane: DataPlane = TEST_DATA_PLANE,
): Promise<TestHost> {
  const kernel = lab.own(await Kernel.start({ log, hostNetns: netns.path }));
  const overlay = lab.overlay(`overlay-${n}`);
  const vtep = `10.99.0.${n}`;
  const wanted: TestHost['wanted'] = ({ ports = [], peers = [], vni = VNI } = {}) =>
    ({
      networkId: '00000000-0000-4000-8000-000000000001',
      netns: overlay.path,
      vni,
      port: PORT,
      udpChecksum: false,
      local: vtep,
      mtu: MTU,
      dataPlane,
      gateway: '10.1.0.1/24',
      ports,
      leaving: [],
      peers: packPeers(peers),
    }) as unknown as WantedNetwork;
  return { netns, kernel, overlay, vtep, wanted };
}

export const macOf = (n: number) => `02:84:0a:01:00:${n.toString(16).padStart(2, '0')}`;
export const addressOf = (n: number) => `10.1.0.${n}`;
/** Endpoint `n` in a container's namespace: 10.1.0.n. */
export const portIn = (container: TestNetns, n: number) =>
  portTo({ kind: 'netns', path: container.path, address: `${addressOf(n)}/24` } as unknown as PortTarget, n);
export const portTo = (target: PortTarget, n: number): WantedPort =>
  ({
    endpointId: `endpoint-${n}`,
    overlayVeth: `sand00${n}`,
    targetMac: macOf(n),
    target,
  }) as unknown as WantedPort;
export const peerAt = (vtep: string, n: number): RemotePeer =>
  ({ address: addressOf(n), mac: macOf(n), vtep }) as unknown as RemotePeer;

/** One port through the batch. */
export async function plugOn(host: TestHost, port: WantedPort): Promise<{ ifName: string }> {
  const [result] = await host.kernel.changePorts(host.wanted(), { plug: [port], unplug: [] });
  if (!result || 'error' in result) throw result?.error ?? new Error('no result');
  return result;
}

export const unplugFrom = async (host: TestHost, port: WantedPort): Promise<void> =>
  void (await host.kernel.changePorts(host.wanted(), { plug: [], unplug: [port] }));
