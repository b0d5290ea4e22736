/**
 * The agent's settings: defaults < file < environment < flags. Read before anything is listened to or changed, with
 * nothing but Node's own modules: the plugin socket has to answer within 400 ms of the start.
 */
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { parseArgs } from 'node:util';
import { InvalidError } from '../model/errors.js';
import { invalid, parseHostName, parseIpv4, VNI_MAX } from '../model/scalars.js';
import { parseEtcdHosts } from '../store/join-token.js';

const DEFAULT_FILE = '/etc/sand/config.json';
const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;

type Parse<T> = (value: string, field: string) => T;

interface Setting<T> {
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
  if (['on', 'true', '1'].includes(value)) return true;
  if (['off', 'false', '0'].includes(value)) return false;
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
const SETTINGS = {
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
    'client certificate for etcd',
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
  netnsPath: setting(
    'netns-path',
    ['NETNS_PATH'],
    '/var/run/netns',
    path,
    'directory of the overlay namespaces',
  ),
  netnsPrefix: setting('netns-prefix', ['NETNS_PREFIX'], 'sc-ns-', namePart, 'how their names begin'),
  maxVni: setting('max-vni', ['MAX_VNI'], 999_999, numberFrom(1, VNI_MAX), 'largest VNI to give'),
  vxlanPort: setting(
    'vxlan-port',
    ['SAND_VXLAN_PORT'],
    4789,
    port,
    'UDP port of the underlay, the same on all hosts',
  ),
  vxlanChecksum: setting('vxlan-checksum', ['SAND_VXLAN_CHECKSUM'], true, onOff, 'outer UDP checksums'),
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
  logLevel: setting(
    'log-level',
    ['SAND_LOG_LEVEL'],
    'info' as const,
    oneOf(LOG_LEVELS),
    LOG_LEVELS.join(', '),
  ),
} as const satisfies Record<string, Setting<unknown>>;

type Name = keyof typeof SETTINGS;
export type Config = {
  readonly [K in Name]: (typeof SETTINGS)[K] extends Setting<infer T> ? T : never;
};

export type CommandLine =
  | { readonly kind: 'run'; readonly config: Config; readonly greet: boolean }
  | { readonly kind: 'help' }
  | { readonly kind: 'version' };

/** @throws InvalidError that names the setting and where it was given. */
export function readCommandLine(argv: readonly string[], env: NodeJS.ProcessEnv): CommandLine {
  const flags = parseFlags(argv);
  if (flags['help']) return { kind: 'help' };
  if (flags['version']) return { kind: 'version' };
  const file = readFile(flags['config'] ?? env['SAND_CONFIG']);
  const values: Record<string, unknown> = {};
  for (const [name, { flag, env: names, parse, fallback }] of Object.entries<Setting<unknown>>(SETTINGS)) {
    const envName = names.find(key => (env[key] ?? '') !== '');
    if (flags[flag] !== undefined) values[name] = parse(String(flags[flag]), `--${flag}`);
    else if (envName !== undefined) values[name] = parse(env[envName] ?? '', envName);
    else if (file[flag] !== undefined)
      values[name] = parse(String(file[flag]), `${flag} in the configuration file`);
    else values[name] = fallback;
  }
  return { kind: 'run', config: checked(values as unknown as Config), greet: flags['greet'] === true };
}

function parseFlags(argv: readonly string[]): Record<string, string | boolean | undefined> {
  const options: Record<string, { type: 'string' | 'boolean' }> = {
    config: { type: 'string' },
    help: { type: 'boolean' },
    version: { type: 'boolean' },
    greet: { type: 'boolean' },
  };
  for (const { flag } of Object.values<Setting<unknown>>(SETTINGS)) options[flag] = { type: 'string' };
  try {
    return parseArgs({ args: [...argv], options, allowPositionals: false }).values as never;
  } catch (cause) {
    const [line] = (cause as Error).message.split('. ');
    throw new InvalidError(`${line}; see sand-agent --help`, { cause });
  }
}

function readFile(asked: string | boolean | undefined): Readonly<Record<string, unknown>> {
  const file = typeof asked === 'string' && asked !== '' ? asked : DEFAULT_FILE;
  if (file === DEFAULT_FILE && !existsSync(file)) return {};
  const known = new Set(Object.values<Setting<unknown>>(SETTINGS).map(({ flag }) => flag));
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new InvalidError(`Configuration file ${file}: ${(cause as Error).message}`, { cause });
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    throw new InvalidError(
      `Configuration file ${file} must hold a JSON object, such as {"peer-ip": "10.0.0.5"}`,
    );
  }
  const unknown = Object.keys(content).find(key => !known.has(key));
  if (unknown !== undefined) {
    throw new InvalidError(`Configuration file ${file}: ${unknown} is no setting; see sand-agent --help`);
  }
  return content as Record<string, unknown>;
}

function checked(config: Config): Config {
  const together = (fields: Partial<Record<string, string | undefined>>) => {
    const given = Object.entries(fields).filter(([, value]) => value !== undefined);
    const [missing] = Object.entries(fields).find(([, value]) => value === undefined) ?? [];
    if (given.length > 0 && missing) {
      throw new InvalidError(`${missing} is missing: ${Object.keys(fields).join(', ')} go together`);
    }
  };
  together({
    HTTP_TLS_CERT: config.httpTlsCert,
    HTTP_TLS_KEY: config.httpTlsKey,
    HTTP_TLS_CA: config.httpTlsCa,
  });
  together({ ETCD_TLS_CERT: config.etcdTlsCert, ETCD_TLS_KEY: config.etcdTlsKey });
  if (config.etcdListen !== undefined && config.etcdHosts !== '') {
    throw new InvalidError(
      '--etcd-listen opens the embedded etcd, but ETCD_HOSTS names another; leave out one of them',
    );
  }
  return { ...config, peerHostname: parseHostName(config.peerHostname || hostname(), 'PEER_HOSTNAME') };
}

/** The text of --help. */
export function usage(): string {
  const lines = Object.values<Setting<unknown>>(SETTINGS).map(({ flag, env, help, fallback }) => {
    const standard = fallback === undefined || fallback === '' ? '' : ` (${fallback})`;
    return `  --${flag.padEnd(16)} ${help}${standard}  [${env[0]}]`;
  });
  return [
    'sand-agent: private networks across hosts for containers',
    '',
    'Usage: sand-agent [flags]',
    '',
    ...lines,
    `  --${'config'.padEnd(16)} JSON file of the same names (${DEFAULT_FILE})  [SAND_CONFIG]`,
    `  --${'greet'.padEnd(16)} say at the end of the start what to type next`,
    `  --${'version'.padEnd(16)} print the version`,
    '',
    'Example: sand-agent --etcd-hosts http://10.0.0.5:2379 --peer-ip 10.0.0.7',
  ].join('\n');
}
