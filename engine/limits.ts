/** Limits of the kernel and of our own layout, told before they bite. Pure, but for `readLimits`. */
import { readFile } from 'node:fs/promises';
import { release } from 'node:os';
import { COVERED_MAX } from '../ipam/pool.js';
import { sizeOf } from '../ipam/range.js';
import type { DataPlane } from '../model/data-plane.js';
import { ExhaustedError } from '../model/errors.js';
import { dataPlaneOf, type Network } from '../model/records.js';
import type { Cidr, NetworkId } from '../model/scalars.js';
import type { Mirror } from './mirror.js';

/** Ports of a Linux bridge are numbered from 1 to 1023 (BR_PORT_BITS in net/bridge/br_private.h), and the VXLAN is one. */
export const ENDPOINTS_MAX = 1_022;
const THRESHOLD = '/proc/sys/net/ipv4/neigh/default/gc_thresh3';
const NEAR = 0.9;
const FILES_OF_A_NETWORK = 8; // its namespace, two sockets there, four settings, and one in passing
const FILES_BESIDE = 512; // etcd, doors, tunnels

export interface Usage {
  /** What is limited, with its ids. */
  readonly what: string;
  readonly used: number;
  readonly limit: number;
  /** What raises it, or gets around it. */
  readonly advice: string;
}

export interface HostLimits {
  /** Of this process; undefined: none. */
  readonly openFiles: number | undefined;
  /**
   * net.ipv4.neigh.default.gc_thresh3, shared by all namespaces of the machine and shown in its first alone; undefined
   * where nobody can tell, and since Linux 5.0, where permanent entries do not count.
   */
  readonly neighbours: number | undefined;
}

export async function readLimits(): Promise<HostLimits> {
  const limits = await readFile('/proc/self/limits', 'utf8');
  const [, soft] = /^Max open files\s+(\S+)/m.exec(limits) ?? [];
  const permanentCount = Number(release().split('.')[0]) < 5;
  const threshold = await readFile(THRESHOLD, 'utf8').catch(() => undefined);
  return {
    openFiles: soft === undefined || soft === 'unlimited' ? undefined : Number(soft),
    neighbours: permanentCount && threshold !== undefined ? Number(threshold) : undefined,
  };
}

/** A network of the cluster, as far as it meets limits. */
export interface NetworkSize {
  readonly id: NetworkId;
  readonly range: Cidr;
  /** In the cluster. */
  readonly endpoints: number;
  /** On this host. */
  readonly local: number;
  readonly dataPlane: DataPlane;
}

export const sizesOf = (mirror: Mirror): NetworkSize[] =>
  mirror.networks().map(network => {
    const { id, ip_range: range } = network.record;
    const dataPlane = dataPlaneOf(network);
    return { id, range, endpoints: mirror.peers(id).size, local: mirror.localCount(id), dataPlane };
  });

/** What is used to nine tenths or more. */
export function nearLimits(networks: readonly NetworkSize[], { openFiles, neighbours }: HostLimits): Usage[] {
  const here = networks.filter(({ local }) => local > 0);
  const bridges = here.filter(({ dataPlane }) => dataPlane === 'bridge');
  const usages: Usage[] = bridges.map(({ id, local }) => ({
    what: `interfaces of network ${id} on this host`,
    used: local,
    limit: ENDPOINTS_MAX,
    advice:
      'a Linux bridge takes no more: put the next ones on another host, or into another network; one of macvlans has no such limit',
  }));
  if (openFiles !== undefined) {
    const used = here.length * FILES_OF_A_NETWORK + FILES_BESIDE;
    usages.push({
      what: 'open files of the agent',
      used,
      limit: openFiles,
      advice: 'raise LimitNOFILE of its unit',
    });
  }
  if (neighbours !== undefined) {
    const used = here.reduce((sum, { endpoints }) => sum + endpoints, 0);
    const advice = 'raise the sysctl net.ipv4.neigh.default.gc_thresh3';
    usages.push({ what: 'neighbour entries of this machine', used, limit: neighbours, advice });
  }
  for (const { id, range, endpoints: used } of networks) {
    const size = sizeOf(range);
    if (size === undefined) continue;
    const limit = Math.min(size, COVERED_MAX) - 3;
    const advice =
      size > COVERED_MAX
        ? 'addresses beyond the first 65,536 are given only when asked for by name'
        : 'its range is nearly used up: make a network with a larger one';
    usages.push({ what: `addresses of network ${id}`, used, limit, advice });
  }
  return usages.filter(({ used, limit }) => used >= limit * NEAR);
}

/** How many interfaces a network can have on one host. */
export const endpointsMaxOf = (network: Network) =>
  dataPlaneOf(network) === 'bridge' ? ENDPOINTS_MAX : Number.POSITIVE_INFINITY;

export const bridgeFull = (id: NetworkId) =>
  new ExhaustedError(
    `Network ${id} has ${ENDPOINTS_MAX} interfaces on this host, as many as a Linux bridge takes; use another host, or another network`,
    { network_id: id },
  );

export const usageText = ({ what, used, limit, advice }: Usage) => `${what}: ${used} of ${limit}; ${advice}`;
