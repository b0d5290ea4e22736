/** `--print-config`: what the agent would run with, each value with where it comes from, secrets hidden. */
import { hostname } from 'node:os';
import { SandError } from '../model/errors.js';
import type { CommandLine, Sources } from './config.js';
import { type Config, type Name, SETTINGS, type Setting, type Source } from './settings.js';
import { chooseVtep } from './vtep.js';

const HIDDEN = '(hidden)';

interface Line {
  readonly name: string;
  readonly value: unknown;
  readonly source: string;
}

/** The whole text, ready to be written. */
export async function printConfig(asked: CommandLine & { kind: 'print-config' }): Promise<string> {
  const { config, sources, format } = asked;
  const workedOut = await workOut(config, sources);
  const lines = Object.entries<Setting<unknown>>(SETTINGS).map(([key, { flag }]): Line => {
    const name = key as Name;
    return {
      name: flag,
      value: shown(name, config[name]),
      source: sourceOf(sources[name]),
      ...workedOut[name],
    };
  });
  if (format === 'json') {
    const settings = Object.fromEntries(lines.map(({ name, value, source }) => [name, { value, source }]));
    return `${JSON.stringify(settings, null, 2)}\n`;
  }
  return `${aligned(lines).join('\n')}\n`;
}

/** null in JSON for what is not set. */
function shown(name: Name, value: unknown): unknown {
  if (value === undefined || value === '') return null;
  if (name === 'etcdPassword') return HIDDEN;
  // A join value ends in a client key.
  if (name === 'etcdHosts') return String(value).replace(/^(sand\+tls:\/\/[^/]*\/).*$/, `$1${HIDDEN}`);
  return value;
}

const sourceOf = ({ kind, name }: Source) => (kind === 'default' ? kind : `${kind} ${name}`);

function aligned(lines: readonly Line[]): string[] {
  const rows = lines.map(({ name, value, source }) => [name, textOf(value), source] as const);
  const widthOf = (column: 0 | 1) => Math.max(...rows.map(row => Math.min(row[column].length, 48)));
  const [names, values] = [widthOf(0), widthOf(1)];
  return rows.map(([name, value, source]) => `${name.padEnd(names)}  ${value.padEnd(values)}  ${source}`);
}

const textOf = (value: unknown) => {
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  return value === null ? '-' : String(value);
};

/** What the agent decides at its start where nothing is given. */
async function workOut(
  config: Config,
  sources: Sources,
): Promise<Partial<Record<Name, Pick<Line, 'value' | 'source'>>>> {
  const given = (name: Name) => sources[name].kind !== 'default';
  const tls = config.httpTlsCert !== undefined;
  return {
    ...(given('peerIp') ? {} : { peerIp: await vtep() }),
    ...(given('peerHostname') ? {} : { peerHostname: { value: hostname(), source: "this host's name" } }),
    ...(given('etcdHosts') ? {} : { etcdHosts: await etcd(config) }),
    ...(given('listen')
      ? {}
      : { listen: { value: tls ? 'all' : 'loopback', source: `default ${tls ? 'with' : 'without'} TLS` } }),
  };
}

async function vtep(): Promise<Pick<Line, 'value' | 'source'>> {
  try {
    return { value: await chooseVtep(undefined), source: 'source of the default route, or the only address' };
  } catch (error) {
    if (!(error instanceof SandError)) throw error;
    return { value: null, source: error.message };
  }
}

async function etcd({ stateDir, etcdListen }: Config): Promise<Pick<Line, 'value' | 'source'>> {
  // Loads etcd3, which the agent itself must not do this early.
  const { EmbeddedEtcd } = await import('../store/embedded.js');
  if (EmbeddedEtcd.hasData(stateDir)) return { value: 'embedded', source: `its data is in ${stateDir}` };
  if (etcdListen !== undefined) return { value: 'embedded', source: 'as etcd-listen opens it' };
  return { value: '127.0.0.1:2379', source: 'if it holds a cluster at the start, else embedded' };
}
