/** Keeps an embedded etcd small: what nobody can read any more is dropped, and the file shrinks. */
import { Etcd3 } from 'etcd3';
import { describeError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import type { EtcdAddress } from './join-token.js';

// Chosen by us.
const LARGE_BYTES = 128 * 1024 ** 2; // below, nothing is worth the pause of a defragmentation
const REVISIONS_KEPT = 1_000; // a follower that was away for longer takes a snapshot

/** What was left the last time: a database that is large because it is in use is not worth the pause. */
const sizeAfter = new Map<string, number>();

/**
 * Compacts and defragments when the database is large, and lifts the alarm of a full quota afterwards.
 * @returns true when it did. Errors are logged: the next round tries again.
 */
export async function keepSmall(
  address: EtcdAddress,
  log: Logger,
  largeBytes = LARGE_BYTES,
): Promise<boolean> {
  const where = address.hosts.join();
  const client = new Etcd3({ hosts: [...address.hosts] });
  try {
    const { dbSize, header } = await client.maintenance.status();
    const alarms = await fullAlarms(client, log);
    const grown = Number(dbSize) > Math.max(largeBytes, 2 * (sizeAfter.get(where) ?? 0));
    if (!grown && alarms.length === 0) return false;
    const revision = Math.max(Number(header.revision) - REVISIONS_KEPT, 1);
    // Compacted before: an answer, not a failure.
    await client.kv.compact({ revision, physical: true }).catch(() => undefined);
    await client.maintenance.defragment({ deadline: Date.now() + 60_000 });
    for (const { memberID, alarm } of alarms) {
      await client.maintenance.alarm({ action: 'Deactivate', memberID, alarm });
    }
    const after = await client.maintenance.status();
    sizeAfter.set(where, Number(after.dbSize));
    log.info('embedded etcd made smaller', {
      bytes_before: dbSize,
      bytes_after: after.dbSize,
      alarms: alarms.length,
    });
    return true;
  } catch (error) {
    log.warn('embedded etcd not tended to', { err: describeError(error) });
    return false;
  } finally {
    client.close();
  }
}

/** The alarms of a full quota. A corrupt database keeps its alarm: that is for a person to look at. */
async function fullAlarms(client: Etcd3, log: Logger) {
  const { alarms } = await client.maintenance.alarm({ action: 'Get' });
  const full = alarms.filter(({ alarm }) => String(alarm).toLowerCase() === 'nospace');
  if (full.length < alarms.length) {
    log.error('embedded etcd says its database is corrupt, restore a copy of the state directory');
  }
  return full;
}
