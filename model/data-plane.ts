/**
 * How a network reaches its containers on a host: by a bridge with a veth pair for each, or by macvlans on the VXLAN
 * itself. The same on the wire: hosts that use either are in one network.
 */
export const DATA_PLANES = ['bridge', 'macvlan'] as const;
export type DataPlane = (typeof DATA_PLANES)[number];
