/** The TLS files of the settings, checked at the start and read again on SIGHUP. */
import { TlsFiles, type TlsParts } from '../listen/tls-files.js';
import { describeError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import type { Config } from './settings.js';

export interface AgentTls {
  /** Of the API, the Docker driver on TCP, and calls to other agents. */
  readonly http: TlsFiles | undefined;
  readonly etcd: TlsFiles<TlsParts> | undefined;
}

/** @throws InvalidError: a file is broken, or two do not belong together. */
export function openTls(config: Config): AgentTls {
  const { httpTlsCert: cert, httpTlsKey: key, httpTlsCa: ca } = config;
  const http = cert && key && ca ? { ca, cert, key } : undefined;
  const etcd = {
    ...(config.etcdCacert ? { ca: config.etcdCacert } : {}),
    ...(config.etcdTlsCert ? { cert: config.etcdTlsCert } : {}),
    ...(config.etcdTlsKey ? { key: config.etcdTlsKey } : {}),
  };
  return {
    http: http && TlsFiles.open(http, { ca: 'HTTP_TLS_CA', cert: 'HTTP_TLS_CERT', key: 'HTTP_TLS_KEY' }),
    etcd:
      Object.keys(etcd).length > 0
        ? TlsFiles.open(etcd, { ca: 'ETCD_CACERT', cert: 'ETCD_TLS_CERT', key: 'ETCD_TLS_KEY' })
        : undefined,
  };
}

/** Reads all files again; what is broken is logged and leaves its side as it was. */
export async function reloadTls(
  tls: AgentTls,
  renewEtcd: (parts: TlsParts) => Promise<void>,
  log: Logger,
): Promise<void> {
  const sides: [name: string, TlsFiles<TlsParts> | undefined, work: () => Promise<void>][] = [
    ['http', tls.http as TlsFiles<TlsParts> | undefined, async () => void tls.http?.reload()],
    ['etcd', tls.etcd, async () => renewEtcd(tls.etcd?.reload() ?? {})],
  ];
  const renewed: Record<string, unknown> = {};
  for (const [name, files, work] of sides) {
    if (!files) continue;
    try {
      await work();
      renewed[name] = files.describe();
    } catch (error) {
      log.error('TLS files not taken, the old ones stay', { side: name, err: describeError(error) });
    }
  }
  if (!tls.http && !tls.etcd) log.info('no TLS files to read again');
  else if (Object.keys(renewed).length > 0) log.info('TLS files read again', renewed);
}
