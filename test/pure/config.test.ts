import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Config, readCommandLine, usage } from '../../daemon/config.js';
import { SETTINGS, type Setting } from '../../daemon/settings.js';
import { encodeJoinToken } from '../../store/join-token.js';

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'sand-config-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Writes a configuration file and gives its path. */
function file(content: unknown): string {
  const path = join(directory, 'config.json');
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

/** The settings of flags, environment and file. Without a file: of one that holds nothing. */
function configOf(given: {
  flags?: readonly string[];
  env?: Record<string, string>;
  file?: unknown;
}): Config {
  const path = file(given.file ?? {});
  const line = readCommandLine(['--config', path, ...(given.flags ?? [])], given.env ?? {});
  if (line.kind !== 'run') throw new Error(`it would not run but show ${line.kind}`);
  return line.config;
}

const pem = (label: string) => `-----BEGIN ${label}-----\nQUJD\n-----END ${label}-----\n`;
const JOIN = encodeJoinToken('10.0.0.5:2379', {
  ca: pem('CERTIFICATE'),
  cert: pem('CERTIFICATE'),
  key: pem('PRIVATE KEY'),
});

describe('readCommandLine()', () => {
  it('without anything gives the defaults that existing deployments rely on', () => {
    expect(configOf({ env: { PEER_HOSTNAME: 'here' } })).toMatchObject({
      etcdHosts: '',
      etcdPrefix: '/sc-net',
      peerHostname: 'here',
      httpPort: 9999,
      netnsPath: '/var/run/netns',
      netnsPrefix: 'sc-ns-',
      maxVni: 999_999,
      vxlanPort: 4789,
      vxlanChecksum: true,
      stateDir: '/var/lib/sand',
      pluginSocket: '/run/docker/plugins/sand.sock',
      logLevel: 'info',
      enableDockerPlugin: false,
      dockerPluginHttpPort: 9998,
    });
  });

  it.each([
    ['a default', {}, 9999],
    ['the file over the default', { file: { 'http-port': 1001 } }, 1001],
    ['the environment over the file', { file: { 'http-port': 1001 }, env: { HTTP_PORT: '1002' } }, 1002],
    [
      'a flag over all',
      { file: { 'http-port': 1001 }, env: { HTTP_PORT: '1002' }, flags: ['--http-port', '1003'] },
      1003,
    ],
    ['a flag over the environment', { env: { HTTP_PORT: '1002' }, flags: ['--http-port=1003'] }, 1003],
    ['an older environment name', { env: { PORT: '1004' } }, 1004],
    ['the newer of two environment names', { env: { PORT: '1004', HTTP_PORT: '1002' } }, 1002],
    ['the older name where the newer is empty', { env: { PORT: '1004', HTTP_PORT: '' } }, 1004],
    ['a text in the file', { file: { 'http-port': '1001' } }, 1001],
  ])('takes %s', (_, given, expected) => {
    expect(configOf(given).httpPort).toBe(expected);
  });

  it.each<[Record<string, string>, keyof Config, unknown]>([
    [{ PUBLIC_IP: '10.0.0.7' }, 'peerIp', '10.0.0.7'],
    [{ PEER_IP: '10.0.0.8', PUBLIC_IP: '10.0.0.7' }, 'peerIp', '10.0.0.8'],
    [{ PUBLIC_HOSTNAME: 'old' }, 'peerHostname', 'old'],
    [{ PEER_HOSTNAME: 'new', PUBLIC_HOSTNAME: 'old' }, 'peerHostname', 'new'],
    [{ ETCD_HOSTS: 'http://a:2379,http://b:2379' }, 'etcdHosts', 'http://a:2379,http://b:2379'],
    [{ ETCD_PREFIX: '/other' }, 'etcdPrefix', '/other'],
    [{ API_HOSTNAME: 'api.example' }, 'apiHostname', 'api.example'],
    [{ NETNS_PATH: '/run/netns/' }, 'netnsPath', '/run/netns'],
    [{ NETNS_PREFIX: 'x-' }, 'netnsPrefix', 'x-'],
    [{ MAX_VNI: '16777215' }, 'maxVni', 16_777_215],
    [{ SAND_VXLAN_CHECKSUM: 'off' }, 'vxlanChecksum', false],
    [{ SAND_LOG_LEVEL: 'debug' }, 'logLevel', 'debug'],
    [{ SAND_LISTEN: '::1' }, 'listen', '::1'],
    [{ ENABLE_DOCKER_PLUGIN: 'true' }, 'enableDockerPlugin', true],
    [{ ENABLE_DOCKER_PLUGIN: 'TRUE' }, 'enableDockerPlugin', true],
    [{ ENABLE_DOCKER_PLUGIN: '0' }, 'enableDockerPlugin', false],
    [{ DOCKER_PLUGIN_HTTP_PORT: '9997' }, 'dockerPluginHttpPort', 9997],
    [{ ETCD_USERNAME: 'u', ETCD_PASSWORD: 'p' }, 'etcdPassword', 'p'],
    [{ ETCD_CACERT: '/dev/null' }, 'etcdCacert', '/dev/null'],
    [{ ETCD_TLS_CERT: '/dev/zero', ETCD_TLS_KEY: '/dev/null' }, 'etcdTlsKey', '/dev/null'],
  ])('of %j makes %s', (env, name, expected) => {
    expect(configOf({ env })[name]).toEqual(expected);
  });

  it.each<[string, { flags?: string[]; env?: Record<string, string>; file?: unknown }, RegExp]>([
    [
      'a port that is none',
      { env: { HTTP_PORT: '0' } },
      /^HTTP_PORT is "0"; it must be a whole number from 1 to 65535$/,
    ],
    ['a port with text', { flags: ['--http-port', '80a'] }, /^--http-port is "80a"/],
    [
      'a wrong value in the file',
      { file: { 'http-port': [] } },
      /^http-port in the configuration file is ""/,
    ],
    ['a VNI that VXLAN has not', { env: { MAX_VNI: '16777216' } }, /^MAX_VNI is "16777216"/],
    ['an IPv6 VTEP', { env: { PEER_IP: '::1' } }, /^PEER_IP is "::1"; IPv6 is not supported yet/],
    ['a VTEP that is a name', { env: { PUBLIC_IP: 'host' } }, /^PUBLIC_IP is "host"/],
    ['a host name with a slash', { env: { PEER_HOSTNAME: 'a/b' } }, /^PEER_HOSTNAME is "a\/b"/],
    ['a prefix without a slash', { env: { ETCD_PREFIX: 'sc-net' } }, /^ETCD_PREFIX is "sc-net"; .*\/sc-net$/],
    ['a prefix with one at its end', { env: { ETCD_PREFIX: '/sc-net/' } }, /^ETCD_PREFIX is/],
    [
      'a relative path',
      { flags: ['--state-dir', 'here'] },
      /^--state-dir is "here"; it must be an absolute path$/,
    ],
    [
      'neither on nor off',
      { env: { SAND_VXLAN_CHECKSUM: 'maybe' } },
      /^SAND_VXLAN_CHECKSUM is "maybe"; it must be on or off$/,
    ],
    [
      'an unknown level',
      { env: { SAND_LOG_LEVEL: 'loud' } },
      /^SAND_LOG_LEVEL is "loud"; .*debug, info, warn, error$/,
    ],
    ['an unknown flag', { flags: ['--http-prot', '1'] }, /--http-prot.*see sand-agent --help$/],
    ['a flag without a value', { flags: ['--http-port'] }, /http-port/],
    ['a word', { flags: ['run'] }, /run/],
    [
      'an unknown setting in the file',
      { file: { httpPort: 1 } },
      /httpPort is no setting; see sand-agent --help$/,
    ],
    ['a file with a list', { file: [] }, /must hold a JSON object/],
    ['a file with no JSON', { file: '{' }, /^Configuration file .*config\.json: /],
    [
      'TLS of the API in part',
      { env: { HTTP_TLS_CERT: '/dev/null' } },
      /^HTTP_TLS_KEY is missing: HTTP_TLS_CERT, HTTP_TLS_KEY, HTTP_TLS_CA go together$/,
    ],
    ['TLS of etcd in part', { env: { ETCD_TLS_KEY: '/dev/null' } }, /^ETCD_TLS_CERT is missing/],
    [
      'a key file that is not there',
      { env: { ETCD_TLS_KEY: '/nonexistent' } },
      /^ETCD_TLS_KEY is "\/nonexistent"/,
    ],
    [
      'TLS to an etcd without it',
      { env: { ETCD_HOSTS: 'http://a,b', ETCD_CACERT: '/dev/null' } },
      /^ETCD_HOSTS has http:\/\/a:2379, which is without TLS, but ETCD_CACERT is given; write https:\/\//,
    ],
    [
      'certificates beside a join value',
      { env: { ETCD_HOSTS: JOIN, ETCD_TLS_CERT: '/dev/null', ETCD_TLS_KEY: '/dev/null' } },
      /^ETCD_HOSTS is a join value, which holds its certificates; leave out ETCD_TLS_CERT$/,
    ],
    ['a password without a user', { env: { ETCD_PASSWORD: 'x' } }, /^ETCD_USERNAME is missing/],
    [
      'one port for two doors',
      { env: { ENABLE_DOCKER_PLUGIN: 'true', HTTP_PORT: '9998' } },
      /^DOCKER_PLUGIN_HTTP_PORT and HTTP_PORT are both 9998/,
    ],
    ['neither on nor off in older words', { env: { ENABLE_DOCKER_PLUGIN: 'yes please' } }, /^ENABLE_DOCKER/],
    [
      'two kinds of etcd',
      { env: { ETCD_HOSTS: 'http://a', SAND_ETCD_LISTEN: '10.0.0.1' } },
      /leave out one of them$/,
    ],
  ])('refuses %s in one line that names it', (_, given, text) => {
    const refused = () => configOf(given);
    expect(refused).toThrow(text);
    expect(refused).toThrow(expect.objectContaining({ kind: 'invalid' }));
    expect(refused).not.toThrow(/\n/);
  });

  it('refuses a file that does not exist when it was asked for', () => {
    expect(() => readCommandLine(['--config', '/nonexistent/config.json'], {})).toThrow(
      '/nonexistent/config.json',
    );
    expect(() => readCommandLine([], { SAND_CONFIG: '/nonexistent/config.json' })).toThrow(
      '/nonexistent/config.json',
    );
  });

  it('shows help and version before it looks at anything else', () => {
    expect(readCommandLine(['--help'], { HTTP_PORT: 'wrong' })).toEqual({ kind: 'help' });
    expect(readCommandLine(['--version', '--config', '/nonexistent'], {})).toEqual({ kind: 'version' });
  });

  it.each(['https://a,b', 'a:2379'])('takes a CA for an etcd at %s', hosts => {
    expect(configOf({ env: { ETCD_HOSTS: hosts, ETCD_CACERT: '/dev/null' } }).etcdCacert).toBe('/dev/null');
  });

  it('shows no password that stands in a broken file or in a URL', () => {
    const texts = ['geheim', '["geheim" x', '{"etcd-password": "geheim" x}', "{'etcd-password': 'geheim'}"];
    for (const text of texts) expect(() => configOf({ file: text })).not.toThrow(/geheim/);
    expect(() => configOf({ env: { ETCD_HOSTS: 'https://root:geheim@a:2379' } })).toThrow(/ETCD_HOSTS/);
    expect(() => configOf({ env: { ETCD_HOSTS: 'https://root:geheim@a:2379' } })).not.toThrow(/geheim/);
  });

  it('warns of variables with our prefix that are none', () => {
    const env = {
      SAND_LISTNE: '::1',
      SAND_COLOUR: 'red',
      SAND_API_URL: 'http://a',
      SAND_LISTEN: '::1',
      SANDY: '1',
    };
    expect(readCommandLine(['--config', file({})], env)).toMatchObject({
      warnings: [
        'SAND_LISTNE in the environment is no setting; SAND_LISTEN is one',
        'SAND_COLOUR in the environment is no setting; see sand-agent --help',
      ],
    });
  });

  it('knows --greet', () => {
    expect(readCommandLine(['--config', file({}), '--greet'], {})).toMatchObject({
      kind: 'run',
      greet: true,
    });
  });
});

describe('usage()', () => {
  it('has a line of at most 110 columns for every flag', () => {
    const lines = usage().split('\n');
    for (const flag of ['etcd-hosts', 'peer-ip', 'max-vni', 'config', 'greet', 'version']) {
      expect(lines.filter(line => line.startsWith(`  --${flag} `))).toHaveLength(1);
    }
    expect(Math.max(...lines.map(line => line.length))).toBeLessThanOrEqual(120);
  });
});

describe('docs/settings.md', () => {
  const page = readFileSync(new URL('../../../docs/settings.md', import.meta.url), 'utf8');
  it.each(Object.values<Setting<unknown>>(SETTINGS))('names --$flag and $env', ({ flag, env }) => {
    for (const name of [`--${flag}`, ...env]) expect(page).toContain(`\`${name}\``);
  });
});
