import type { EtcdCluster } from './etcd.js';

/** Ends the lease of a host's presence now: what its TTL does to a host that is silent. */
export async function expirePresence(etcd: EtcdCluster, prefix: string, hostname: string): Promise<void> {
  const text = await etcd.ctl('get', `${prefix}/network.presence/${hostname}`, '-w', 'json');
  const [, lease = '0'] = /"lease":(\d+)/.exec(text) ?? []; // an int64: JSON.parse would round it
  await etcd.ctl('lease', 'revoke', BigInt(lease).toString(16));
}
