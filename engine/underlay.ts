/** What a network asks of this host's underlay. */
import { ConflictError } from '../model/errors.js';
import { mtuOf, type Network } from '../model/records.js';
import type { Kernel } from '../overlay/kernel.js';
import { type HostSettings, VXLAN_OVERHEAD } from './host.js';

/** @throws ConflictError: the network's packets would not fit. NotFoundError: the VTEP address is nobody's. KernelError. */
export async function requireUnderlay(kernel: Kernel, host: HostSettings, network: Network): Promise<void> {
  const { id } = network.record;
  const mtu = mtuOf(network);
  const underlay = await kernel.underlay(host.vtep);
  const carried = underlay.mtu - VXLAN_OVERHEAD;
  if (mtu <= carried) return;
  throw new ConflictError(
    `Network ${id} has MTU ${mtu}, but ${underlay.ifName} of host ${host.name} carries ${carried} ` +
      `(${underlay.mtu} less ${VXLAN_OVERHEAD} for VXLAN); raise the MTU of ${underlay.ifName} or make the network anew with a smaller one`,
    { network_id: id, mtu, underlay_mtu: underlay.mtu },
  );
}
