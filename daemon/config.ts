/** The settings as given: defaults < file < environment < flags. Read before anything is listened to or changed. */
import { existsSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { parseArgs } from 'node:util';
import { InvalidError } from '../model/errors.js';
import { parseHostName } from '../model/scalars.js';
import { parseEtcdHosts } from '../store/join-token.js';
import {
  type Config,
  DEFAULT_FILE,
  type Name,
  SETTINGS,
  type Setting,
  type Source,
  strayVariables,
} from './settings.js';

export type { Config } from './settings.js';
export type Sources = Readonly<Record<Name, Source>>;

export type CommandLine =
  | {
      readonly kind: 'run';
      readonly config: Config;
      readonly greet: boolean;
      /** Told once there is a log. */
      readonly warnings: readonly string[];
    }
  | {
      readonly kind: 'print-config';
      readonly config: Config;
      readonly sources: Sources;
      readonly format: 'text' | 'json';
      readonly warnings: readonly string[];
    }
  | { readonly kind: 'help' }
  | { readonly kind: 'version' };

type Flags = Readonly<Record<string, string | boolean | undefined>>;

/** @throws InvalidError that names the setting and where it was given. */
export function readCommandLine(argv: readonly string[], env: NodeJS.ProcessEnv): CommandLine {
  const flags = parseFlags(argv);
  if (flags['help']) return { kind: 'help' };
  if (flags['version']) return { kind: 'version' };
  const { config, sources } = readSettings(flags, env);
  const warnings = strayVariables(env);
  const format = flags['print-config'];
  if (format === undefined) return { kind: 'run', config, greet: flags['greet'] === true, warnings };
  if (format !== 'text' && format !== 'json') {
    throw new InvalidError(`--print-config is ${JSON.stringify(format)}; it must be text or json`);
  }
  return { kind: 'print-config', config, sources, format, warnings };
}

function readSettings(flags: Flags, env: NodeJS.ProcessEnv): { config: Config; sources: Sources } {
  const file = readFile(flags['config'] ?? env['SAND_CONFIG']);
  const values: Record<string, unknown> = {};
  const sources: Record<string, Source> = {};
  for (const [name, { flag, env: names, parse, fallback }] of Object.entries<Setting<unknown>>(SETTINGS)) {
    const take = (value: unknown, source: Source, field: string) => {
      values[name] = parse(String(value), field);
      sources[name] = source;
    };
    const variable = names.find(key => (env[key] ?? '') !== '');
    if (flags[flag] !== undefined) take(flags[flag], { kind: 'flag', name: `--${flag}` }, `--${flag}`);
    else if (variable !== undefined) take(env[variable], { kind: 'environment', name: variable }, variable);
    else if (file.content[flag] !== undefined)
      take(file.content[flag], { kind: 'file', name: file.path }, `${flag} in the configuration file`);
    else {
      values[name] = fallback;
      sources[name] = { kind: 'default', name: '' };
    }
  }
  return { config: checked(values as unknown as Config), sources: sources as Sources };
}

function parseFlags(argv: readonly string[]): Flags {
  const options: Record<string, { type: 'string' | 'boolean' }> = {
    config: { type: 'string' },
    help: { type: 'boolean' },
    version: { type: 'boolean' },
    greet: { type: 'boolean' },
    managed: { type: 'boolean' },
    'print-config': { type: 'string' },
  };
  for (const { flag } of Object.values<Setting<unknown>>(SETTINGS)) options[flag] = { type: 'string' };
  // The one flag whose value may be left out.
  const args = argv.map(word => (word === '--print-config' ? '--print-config=text' : word));
  try {
    return parseArgs({ args, options, allowPositionals: false }).values as never;
  } catch (cause) {
    const [line] = (cause as Error).message.split('. ');
    throw new InvalidError(`${line}; see sand-agent --help`, { cause });
  }
}

interface SettingsFile {
  readonly path: string;
  readonly content: Readonly<Record<string, unknown>>;
}

function readFile(asked: string | boolean | undefined): SettingsFile {
  const path = typeof asked === 'string' && asked !== '' ? asked : DEFAULT_FILE;
  if (path === DEFAULT_FILE && !existsSync(path)) return { path, content: {} };
  const known = new Set(Object.values<Setting<unknown>>(SETTINGS).map(({ flag }) => flag));
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new InvalidError(`Configuration file ${path}: ${reasonOf(cause as Error)}`);
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    throw new InvalidError(
      `Configuration file ${path} must hold a JSON object, such as {"peer-ip": "10.0.0.5"}`,
    );
  }
  const unknown = Object.keys(content).find(key => !known.has(key));
  if (unknown !== undefined) {
    throw new InvalidError(`Configuration file ${path}: ${unknown} is no setting; see sand-agent --help`);
  }
  return { path, content: content as Record<string, unknown> };
}

/** JSON.parse quotes what it read behind a comma, and that may be a password. */
const reasonOf = ({ message }: Error) => message.split(/, \.*"/)[0];

function checked(config: Config): Config {
  checkTogether({
    HTTP_TLS_CERT: config.httpTlsCert,
    HTTP_TLS_KEY: config.httpTlsKey,
    HTTP_TLS_CA: config.httpTlsCa,
  });
  checkTogether({ ETCD_TLS_CERT: config.etcdTlsCert, ETCD_TLS_KEY: config.etcdTlsKey });
  checkEtcd(config);
  if (config.enableDockerPlugin && config.dockerPluginHttpPort === config.httpPort) {
    throw new InvalidError(
      `DOCKER_PLUGIN_HTTP_PORT and HTTP_PORT are both ${config.httpPort}; they must differ`,
    );
  }
  return { ...config, peerHostname: parseHostName(config.peerHostname || hostname(), 'PEER_HOSTNAME') };
}

function checkTogether(fields: Partial<Record<string, string | undefined>>): void {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined);
  const [missing] = Object.entries(fields).find(([, value]) => value === undefined) ?? [];
  if (given.length > 0 && missing) {
    throw new InvalidError(`${missing} is missing: ${Object.keys(fields).join(', ')} go together`);
  }
}

function checkEtcd({ etcdHosts, etcdListen, etcdCacert, etcdTlsCert, ...rest }: Config): void {
  if (etcdListen !== undefined && etcdHosts !== '') {
    throw new InvalidError(
      '--etcd-listen opens the embedded etcd, but ETCD_HOSTS names another; leave out one of them',
    );
  }
  if (rest.etcdPassword !== '' && rest.etcdUsername === '') {
    throw new InvalidError('ETCD_USERNAME is missing: ETCD_PASSWORD is the password of a user');
  }
  const tls = etcdCacert !== undefined ? 'ETCD_CACERT' : etcdTlsCert !== undefined ? 'ETCD_TLS_CERT' : '';
  if (tls === '' || etcdHosts === '') return;
  const { hosts, tls: ofToken } = parseEtcdHosts(etcdHosts);
  if (ofToken) {
    throw new InvalidError(`ETCD_HOSTS is a join value, which holds its certificates; leave out ${tls}`);
  }
  const plain = hosts.find(host => !host.startsWith('https://') && /^(http|unix):/.test(host));
  if (plain !== undefined) {
    throw new InvalidError(
      `ETCD_HOSTS has ${plain}, which is without TLS, but ${tls} is given; write https:// or leave out ${tls}`,
    );
  }
}

/** The text of --help. */
export function usage(): string {
  const lines = Object.values<Setting<unknown>>(SETTINGS).map(({ flag, env, help, fallback }) => {
    const shown = typeof fallback === 'boolean' ? (fallback ? 'on' : 'off') : fallback;
    const standard = shown === undefined || shown === '' ? '' : ` (${shown})`;
    return line(flag, `${help}${standard}  [${env[0]}]`);
  });
  return [
    'sand-agent: private networks across hosts for containers',
    '',
    'Usage: sand-agent [flags]',
    '',
    ...lines,
    line('config', `JSON file of the same names (${DEFAULT_FILE})  [SAND_CONFIG]`),
    line('print-config', 'print each setting with its source and end; =json for programs'),
    line('greet', 'say at the end of the start what to type next'),
    line('managed', 'run as a managed plugin: what is wrong is answered, and never ends the agent'),
    line('version', 'print the version'),
    '',
    'SIGHUP has the TLS files read again.',
    '',
    'Example: sand-agent --etcd-hosts http://10.0.0.5:2379 --peer-ip 10.0.0.7',
  ].join('\n');
}

const line = (flag: string, text: string) => `  --${flag.padEnd(23)} ${text}`;
