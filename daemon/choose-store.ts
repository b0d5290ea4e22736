/** Which etcd holds the cluster's truth, when ETCD_HOSTS may not say. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describeError } from '../model/errors.js';
import { type Logger, rateLimited } from '../model/log.js';
import type { IpAddress } from '../model/scalars.js';
import { StoreClient, type StoreTls } from '../store/client.js';
import { EmbeddedEtcd } from '../store/embedded.js';
import { parseEtcdHosts } from '../store/join-token.js';
import type { Config } from './settings.js';

/** Where agents of the original look when nobody tells them. */
const LOCAL_ETCD = '127.0.0.1:2379';
const PROBE_MS = 1_000;
const TRY_AGAIN_MS = 3_000;

export interface ChosenStore {
  readonly store: StoreClient;
  readonly embedded: EmbeddedEtcd | undefined;
  /** Whether it is reached with the TLS files of the settings. */
  readonly usesTlsFiles: boolean;
}

/**
 * The etcd that is told; else our own data if there is any; else the local default if it holds a cluster; else an
 * embedded etcd. An embedded one that does not start is tried again until the signal.
 */
export async function chooseStore(
  config: Config,
  tls: StoreTls | undefined,
  { log, signal }: { readonly log: Logger; readonly signal: AbortSignal },
): Promise<ChosenStore | undefined> {
  const auth = config.etcdUsername
    ? { username: config.etcdUsername, password: config.etcdPassword }
    : undefined;
  if (config.etcdHosts !== '') {
    const address = parseEtcdHosts(config.etcdHosts);
    log.info('etcd as configured', { etcd: address.hosts.join(',') });
    return {
      store: new StoreClient({ hosts: address.hosts, tls: address.tls ?? tls, auth }),
      embedded: undefined,
      usesTlsFiles: tls !== undefined,
    };
  }
  if (!EmbeddedEtcd.hasData(config.stateDir) && config.etcdListen === undefined) {
    const store = new StoreClient({ hosts: [tls ? `https://${LOCAL_ETCD}` : LOCAL_ETCD], tls, auth });
    if (await holdsCluster(store, config.etcdPrefix)) {
      log.info('etcd of this machine, which holds a cluster', {
        etcd: LOCAL_ETCD,
        prefix: config.etcdPrefix,
      });
      return { store, embedded: undefined, usesTlsFiles: tls !== undefined };
    }
    await store[Symbol.asyncDispose]();
  }
  return startEmbedded(config, log, signal);
}

async function holdsCluster(store: StoreClient, prefix: string): Promise<boolean> {
  const key = Buffer.from(`${prefix}/`);
  const end = Buffer.from(`${prefix}0`);
  const probe = store.range({ key, range_end: end, limit: 1 }).then(
    ({ kvs }) => kvs.length > 0,
    () => false,
  );
  return Promise.race([probe, sleep(PROBE_MS, false, { ref: false })]);
}

async function startEmbedded(
  config: Config,
  log: Logger,
  signal: AbortSignal,
): Promise<ChosenStore | undefined> {
  const complain = rateLimited(log);
  while (!signal.aborted) {
    try {
      const embedded = await EmbeddedEtcd.start({
        stateDir: config.stateDir,
        log,
        ...(config.etcdListen ? { listen: config.etcdListen as IpAddress } : {}),
      });
      const { hosts, tls } = embedded.address;
      log.info('etcd embedded in this agent', { etcd: hosts.join(','), state_dir: config.stateDir });
      if (embedded.joinCommand) log.info('another host joins with', { command: embedded.joinCommand });
      return { store: new StoreClient({ hosts, tls }), embedded, usesTlsFiles: false };
    } catch (error) {
      complain.error('embedded etcd does not start, trying again', { err: describeError(error) });
      await sleep(TRY_AGAIN_MS, undefined, { signal }).catch(() => undefined);
    }
  }
  return undefined;
}
