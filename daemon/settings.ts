/**
 * Every setting: its flag, its names in the environment, its default and what it takes. With nothing but Node's own
 * modules: the plugin socket has to answer within 400 ms of the start.
 */
import { accessSync, constants } from 'node:fs';
import { isIP } from 'node:net';
import { DATA_PLANES, type DataPlane } from '../model/data-plane.js';
import { invalid, parseIpv4, VNI_MAX } from '../model/scalars.js';
import { parseEtcdHosts } from '../store/join-token.js';

export const DEFAULT_FILE = '/etc/sand/config.json';
const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;

type Parse<T> = (value: string, field: string) => T;

export interface Setting<T> {
  readonly flag: string;
  /** Newest name first; the older ones are those of existing deployments. */
  readonly env: readonly string[];
  readonly help: string;
  readonly parse: Parse<T>;
  readonly fallback: T;
}

const setting = <T>(
  flag: string,
  env: readonly string[],
  fallback: T,
  parse: Parse<T>,
  help: string,
): Setting<T> => ({ flag, env, fallback, parse, help });

const text: Parse<string> = value => value;
const path: Parse<string> = (value, field) => {
  if (!value.startsWith('/') || value.includes('\0')) throw invalid(field, value, 'an absolute path');
  return value.length > 1 ? value.replace(/\/+$/, '') : value;
};
const file: Parse<string> = (value, field) => {
  try {
    accessSync(value, constants.R_OK);
  } catch {
    throw invalid(field, value, 'a readable file');
  }
  return value;
};
const etcdHosts: Parse<string> = value => {
  parseEtcdHosts(value);
  return value;
};
const numberFrom =
  (least: number, most: number): Parse<number> =>
  (value, field) => {
    const number = /^\d{1,9}$/.test(value) ? Number(value) : Number.NaN;
    if (!(number >= least && number <= most))
      throw invalid(field, value, `a whole number from ${least} to ${most}`);
    return number;
  };
const port = numberFrom(1, 65_535);
const onOff: Parse<boolean> = (value, field) => {
  // Deployments of the original write what Go's ParseBool takes.
  if (['on', 'true', 't', '1'].includes(value.toLowerCase())) return true;
  if (['off', 'false', 'f', '0'].includes(value.toLowerCase())) return false;
  throw invalid(field, value, 'on or off');
};
const oneOf =
  <T extends string>(values: readonly T[]): Parse<T> =>
  (value, field) => {
    const found = values.find(known => known === value);
    if (found === undefined) throw invalid(field, value, values.join(', '));
    return found;
  };
const ip: Parse<string> = (value, field) => {
  if (isIP(value) === 0) throw invalid(field, value, 'an IP address');
  return value;
};
const keyPrefix: Parse<string> = (value, field) => {
  if (!/^\/[^\s]*[^\s/]$/.test(value)) throw invalid(field, value, 'a key prefix such as /sc-net');
  return value;
};
const namePart: Parse<string> = (value, field) => {
  if (!/^[A-Za-z0-9._-]+$/.test(value)) throw invalid(field, value, 'letters, digits, dots and dashes');
  return value;
};

const none = undefined;
/** Every setting, in the order of --help. */
export const SETTINGS = {
  etcdHosts: setting(
    'etcd-hosts',
    ['ETCD_HOSTS'],
    '',
    etcdHosts,
    'etcd of the cluster: URLs, or what another agent printed',
  ),
  etcdPrefix: setting('etcd-prefix', ['ETCD_PREFIX'], '/sc-net', keyPrefix, 'prefix of all keys'),
  etcdCacert: setting<string | undefined>('etcd-cacert', ['ETCD_CACERT'], none, file, 'CA of etcd, PEM'),
  etcdTlsCert: setting<string | undefined>(
    'etcd-tls-cert',
    ['ETCD_TLS_CERT'],
    none,
    file,
    'client certificate for etcd, PEM',
  ),
  etcdTlsKey: setting<string | undefined>('etcd-tls-key', ['ETCD_TLS_KEY'], none, file, 'its key'),
  etcdUsername: setting('etcd-username', ['ETCD_USERNAME'], '', text, 'user of etcd'),
  etcdPassword: setting('etcd-password', ['ETCD_PASSWORD'], '', text, 'its password'),
  etcdListen: setting<string | undefined>(
    'etcd-listen',
    ['SAND_ETCD_LISTEN'],
    none,
    (value, field) => parseIpv4(value, field),
    'open the embedded etcd to other hosts on this address',
  ),
  peerIp: setting<string | undefined>(
    'peer-ip',
    ['PEER_IP', 'PUBLIC_IP'],
    none,
    (value, field) => parseIpv4(value, field),
    'VTEP address of this host; default: source of the default route',
  ),
  peerHostname: setting(
    'peer-hostname',
    ['PEER_HOSTNAME', 'PUBLIC_HOSTNAME'],
    '',
    text,
    'name of this host in the cluster',
  ),
  apiHostname: setting(
    'api-hostname',
    ['API_HOSTNAME'],
    '',
    text,
    'name under which other agents reach this API',
  ),
  httpPort: setting('http-port', ['HTTP_PORT', 'PORT'], 9999, port, 'TCP port of the API'),
  listen: setting<string | undefined>(
    'listen',
    ['SAND_LISTEN'],
    none,
    ip,
    'address of the API; default: loopback, with TLS all',
  ),
  httpTlsCert: setting<string | undefined>(
    'http-tls-cert',
    ['HTTP_TLS_CERT'],
    none,
    file,
    'server certificate of the API, PEM',
  ),
  httpTlsKey: setting<string | undefined>('http-tls-key', ['HTTP_TLS_KEY'], none, file, 'its key'),
  httpTlsCa: setting<string | undefined>('http-tls-ca', ['HTTP_TLS_CA'], none, file, 'CA of the API clients'),
  enableDockerPlugin: setting(
    'enable-docker-plugin',
    ['ENABLE_DOCKER_PLUGIN'],
    false,
    onOff,
    'serve the Docker driver on TCP too',
  ),
  dockerPluginHttpPort: setting(
    'docker-plugin-http-port',
    ['DOCKER_PLUGIN_HTTP_PORT'],
    9998,
    port,
    'its port',
  ),
  netnsPath: setting(
    'netns-path',
    ['NETNS_PATH'],
    '/var/run/netns',
    path,
    'directory of the overlay namespaces',
  ),
  netnsPrefix: setting('netns-prefix', ['NETNS_PREFIX'], 'sc-ns-', namePart, 'how their names begin'),
  maxVni: setting('max-vni', ['MAX_VNI'], 999_999, numberFrom(1, VNI_MAX), 'largest VNI to give'),
  dataPlane: setting<DataPlane>(
    'dataplane',
    ['SAND_DATAPLANE'],
    'bridge',
    oneOf(DATA_PLANES),
    `of new networks that do not say: ${DATA_PLANES.join(', ')}`,
  ),
  vxlanPort: setting(
    'vxlan-port',
    ['SAND_VXLAN_PORT'],
    4789,
    port,
    'UDP port of the underlay, the same on all hosts',
  ),
  vxlanChecksum: setting('vxlan-checksum', ['SAND_VXLAN_CHECKSUM'], true, onOff, 'outer UDP checksums'),
  hostDeadAfter: setting(
    'host-dead-after',
    ['SAND_HOST_DEAD_AFTER'],
    0,
    numberFrom(0, 86_400 * 30),
    'seconds until a host without a sign of life is cut off; 0: never',
  ),
  stateDir: setting(
    'state-dir',
    ['SAND_STATE_DIR'],
    '/var/lib/sand',
    path,
    'embedded etcd, TLS files, journal',
  ),
  runDir: setting('run-dir', ['SAND_RUN_DIR'], '/run/sand', path, 'API socket'),
  pluginSocket: setting(
    'plugin-socket',
    ['SAND_PLUGIN_SOCKET'],
    '/run/docker/plugins/sand.sock',
    path,
    'where dockerd finds the driver',
  ),
  shortSocket: setting<string | undefined>(
    'short-socket',
    ['SAND_SHORT_SOCKET'],
    none,
    path,
    'second place of the driver, unless another process serves it',
  ),
  hostRun: setting<string | undefined>(
    'host-run',
    ['SAND_HOST_RUN'],
    none,
    path,
    "where the host's /run is, if not at /run",
  ),
  logLevel: setting(
    'log-level',
    ['SAND_LOG_LEVEL'],
    'info' as const,
    oneOf(LOG_LEVELS),
    LOG_LEVELS.join(', '),
  ),
} as const satisfies Record<string, Setting<unknown>>;

export type Name = keyof typeof SETTINGS;
export type Config = {
  readonly [K in Name]: (typeof SETTINGS)[K] extends Setting<infer T> ? T : never;
};

/** Docker's own API, as this process finds it. */
export const dockerSocketOf = ({ hostRun = '/run' }: Config) => `${hostRun}/docker.sock`;
export const apiSocketOf = ({ runDir }: Config) => `${runDir}/api.sock`;

export interface Source {
  readonly kind: 'default' | 'file' | 'environment' | 'flag';
  /** The file's path, the variable or the flag; empty for a default. */
  readonly name: string;
}

/** Variables with our prefix that other programs of ours read, or that name the file. */
const OTHER_VARIABLES = [
  'SAND_CONFIG',
  'SAND_API_URL',
  'SAND_CERT_FILE',
  'SAND_KEY_FILE',
  'SAND_CA_FILE',
  'SAND_TIMEOUT',
];

/** A line for every variable with our prefix that is none: a slip of the keyboard changes nothing, silently. */
export function strayVariables(env: NodeJS.ProcessEnv): string[] {
  const known = [
    ...Object.values<Setting<unknown>>(SETTINGS).flatMap(({ env: names }) => names),
    ...OTHER_VARIABLES,
  ];
  const stray = Object.keys(env).filter(name => name.startsWith('SAND_') && !known.includes(name));
  return stray.map(name => {
    const meant = known.find(other => distance(name, other) <= 2);
    return `${name} in the environment is no setting; ${meant ? `${meant} is one` : 'see sand-agent --help'}`;
  });
}

/** Letters to insert, delete or replace (Levenshtein). */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, at) => at);
  for (const [i, letter] of [...from].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...to].entries()) {
      const replaced = (row[j] ?? 0) + (letter === other ? 0 : 1);
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
