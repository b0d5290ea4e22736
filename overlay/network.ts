/** Gateway and VXLAN of one overlay namespace: made in place, with explicit index and namespace, never moved. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ConflictError, KernelError } from '../model/errors.js';
import { addressOf, type IfName, type MacAddress } from '../model/scalars.js';
import { newAddress } from './netlink/address.js';
import { newBridge } from './netlink/bridge.js';
import { ipBytes } from './netlink/codec.js';
import type { Conn, Request } from './netlink/conn.js';
import { EEXIST } from './netlink/constants.js';
import { delLink, type Link, newVxlan, setLink } from './netlink/link.js';
import { newMacvlan } from './netlink/macvlan.js';
import type { Netns } from './netns.js';
import type { WantedNetwork } from './types.js';

export const BRIDGE = 'br0' as IfName;
/** Has the bridge's part where there is none. */
export const GATEWAY = 'gateway0' as IfName;
export const VXLAN = 'vxlan0' as IfName;
export const LOOPBACK_INDEX = 1;
export const GATEWAY_INDEX = 2;
export const VXLAN_INDEX = 3;

// A namespace that was removed a moment ago holds its VNI for another 70 to 117 ms.
const VNI_TRIES = 20;
const VNI_PAUSE_MS = 50;

/** Where the parts of an overlay are; other numbers than ours in one that we adopted. */
export interface OverlayIndexes {
  /** Carries the gateway's address: the bridge, or a macvlan. */
  readonly gateway: number;
  readonly vxlan: number;
}

/** The index itself, or another that nothing has. */
export function freeIndex(links: readonly Link[], index: number, ...alsoTaken: readonly number[]): number {
  const taken = [...links.map(link => link.index), ...alsoTaken];
  return taken.includes(index) ? Math.max(...taken) + index : index;
}

/** The same gateway on every host bears the same MAC: a container that moves need not ask again. */
function bridgeMac(wanted: WantedNetwork): MacAddress {
  const bytes = [...ipBytes(addressOf(wanted.gateway)).subarray(-4)];
  return `02:84:${bytes.map(byte => byte.toString(16).padStart(2, '0')).join(':')}` as MacAddress;
}

export function createBridge(conn: Conn, wanted: WantedNetwork, index = GATEWAY_INDEX): void {
  conn.run([
    newBridge(BRIDGE, index, bridgeMac(wanted), wanted.mtu),
    setLink({ index: LOOPBACK_INDEX }, { up: true }),
    newAddress(index, wanted.gateway),
  ]);
}

/** The gateway of a network without a bridge: one more macvlan, with the MAC that a bridge would have. */
export function createGateway(conn: Conn, wanted: WantedNetwork, at: OverlayIndexes): void {
  const place = { on: at.vxlan, index: at.gateway, mtu: wanted.mtu };
  conn.run([
    newMacvlan(GATEWAY, bridgeMac(wanted), place),
    setLink({ index: LOOPBACK_INDEX }, { up: true }),
    setLink({ index: at.gateway }, { up: true }),
    newAddress(at.gateway, wanted.gateway),
  ]);
}

/**
 * An adopted bridge has the lowest MAC of its ports, and another one when they change: set, it stays, and containers
 * that remember the gateway's are right. Asking for the MAC that it has is enough for that.
 */
export const pinMac = (gateway: Link | undefined): Request[] =>
  gateway?.mac && gateway.kind === 'bridge' ? [setLink({ index: gateway.index }, { mac: gateway.mac })] : [];

/**
 * @param at where it is to be; `master`: whose port, 0 for none
 * @throws ConflictError when the VNI stays taken on this host.
 */
export async function createVxlan(
  host: Conn,
  netns: Netns,
  wanted: WantedNetwork,
  at: { readonly index: number; readonly master: number },
): Promise<void> {
  const { vni, local, port, udpChecksum, mtu } = wanted;
  const place = { netns: netns.fd, mtu, ...at };
  for (let tries = 1; ; tries++) {
    try {
      host.run([newVxlan(VXLAN, place, { vni, local, port, udpChecksum })]);
      return;
    } catch (error) {
      if (!(error instanceof KernelError) || error.facts['errno'] !== EEXIST) throw error;
      if (tries === VNI_TRIES) throw vniTaken(wanted, error);
      await sleep(VNI_PAUSE_MS);
    }
  }
}

const vniTaken = ({ networkId, vni, port, netns }: WantedNetwork, cause: KernelError) =>
  new ConflictError(
    `VNI ${vni} on UDP port ${port} is used by another VXLAN of this host, not by network ${networkId} in ${netns}; find it with "ip -d link show type vxlan" here and in the host's other namespaces, and delete it`,
    { cause, network_id: networkId, vni },
  );

/** Deleting the VXLAN first frees its VNI at once, not when the kernel comes to clean the namespace up. */
export const deleteVxlan = (conn: Conn): Promise<void> => conn.runSlowly(delLink({ name: VXLAN }));
