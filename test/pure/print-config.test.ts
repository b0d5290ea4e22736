import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeJoinToken } from '../../store/join-token.js';
import { json, run } from '../support/command.js';
import { AGENT_MAIN } from '../support/local-agent.js';

type Printed = Record<string, { value: unknown; source: string }>;

let directory: string;
let file: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'sand-print-'));
  file = join(directory, 'config.json');
  writeFileSync(file, JSON.stringify({ 'netns-prefix': 'x-', 'max-vni': 4_000, 'http-port': 1_001 }));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Names that this machine's environment may have are taken away. */
const nothing = { ETCD_HOSTS: undefined, PORT: undefined, HTTP_PORT: undefined, PEER_IP: undefined };
const print = (flags: readonly string[], env: Readonly<Record<string, string | undefined>> = {}) =>
  run([process.execPath, AGENT_MAIN, '--config', file, '--state-dir', join(directory, 'state'), ...flags], {
    env: { ...nothing, ...env },
  });

describe('--print-config', () => {
  it('prints every setting with its value and source', async () => {
    const env = { PUBLIC_IP: '10.0.0.7', PEER_HOSTNAME: 'ant', ETCD_PASSWORD: 'a-secret', PORT: '1002' };
    const flags = ['--print-config', '--etcd-hosts', 'http://a,b', '--etcd-username', 'agent'];
    const { status, stdout, stderr } = await print(flags, env);
    expect([status, stderr]).toEqual([0, '']);
    const state = join(directory, 'state');
    const table = [
      ['etcd-hosts', 'http://a,b', 'flag --etcd-hosts'],
      ['etcd-prefix', '/sc-net', 'default'],
      ['etcd-cacert', '-', 'default'],
      ['etcd-tls-cert', '-', 'default'],
      ['etcd-tls-key', '-', 'default'],
      ['etcd-username', 'agent', 'flag --etcd-username'],
      ['etcd-password', '(hidden)', 'environment ETCD_PASSWORD'],
      ['etcd-listen', '-', 'default'],
      ['peer-ip', '10.0.0.7', 'environment PUBLIC_IP'],
      ['peer-hostname', 'ant', 'environment PEER_HOSTNAME'],
      ['api-hostname', '-', 'default'],
      ['http-port', '1002', 'environment PORT'],
      ['listen', 'loopback', 'default without TLS'],
      ['http-tls-cert', '-', 'default'],
      ['http-tls-key', '-', 'default'],
      ['http-tls-ca', '-', 'default'],
      ['enable-docker-plugin', 'off', 'default'],
      ['docker-plugin-http-port', '9998', 'default'],
      ['netns-path', '/var/run/netns', 'default'],
      ['netns-prefix', 'x-', `file ${file}`],
      ['max-vni', '4000', `file ${file}`],
      ['dataplane', 'bridge', 'default'],
      ['vxlan-port', '4789', 'default'],
      ['vxlan-checksum', 'on', 'default'],
      ['host-dead-after', '0', 'default'],
      ['state-dir', state, 'flag --state-dir'],
      ['run-dir', '/run/sand', 'default'],
      ['plugin-socket', '/run/docker/plugins/sand.sock', 'default'],
      ['short-socket', '-', 'default'],
      ['host-run', '-', 'default'],
      ['log-level', 'info', 'default'],
    ] as const;
    const width = Math.max(...table.map(([, value]) => value.length));
    const lines = table.map(
      ([name, value, source]) => `${name.padEnd(23)}  ${value.padEnd(width)}  ${source}\n`,
    );
    expect(stdout).toBe(lines.join(''));
  });

  it('shows what the agent works out itself, as JSON too', async () => {
    const { status, stdout } = await print(['--print-config=json']);
    expect(status).toBe(0);
    const printed = JSON.parse(stdout) as Printed;
    const [route] = await json<{ prefsrc?: string }[]>(['ip', '-j', 'route', 'get', '192.0.2.1']);
    expect(printed).toMatchObject({
      'peer-ip': { value: route?.prefsrc, source: expect.stringContaining('source of the default route') },
      'peer-hostname': { value: hostname(), source: "this host's name" },
      'etcd-hosts': { value: '127.0.0.1:2379', source: expect.stringContaining('else embedded') },
      'etcd-password': { value: null, source: 'default' },
      'http-port': { value: 1_001, source: `file ${file}` },
      'vxlan-checksum': { value: true, source: 'default' },
    });
  });

  it('hides the key in a join value', async () => {
    const pem = (label: string) => `-----BEGIN ${label}-----\nQUJDREVGR0g=\n-----END ${label}-----\n`;
    const tls = { ca: pem('CERTIFICATE'), cert: pem('CERTIFICATE'), key: pem('PRIVATE KEY') };
    const { stdout } = await print(['--print-config=json'], {
      ETCD_HOSTS: encodeJoinToken('10.0.0.5:2379', tls),
    });
    expect((JSON.parse(stdout) as Printed)['etcd-hosts']).toEqual({
      value: 'sand+tls://10.0.0.5:2379/(hidden)',
      source: 'environment ETCD_HOSTS',
    });
  });

  it('refuses another form and a broken setting with exit status 2, and warns on standard error', async () => {
    expect(await print(['--print-config=yaml'])).toEqual({
      status: 2,
      stdout: '',
      stderr: 'sand-agent: --print-config is "yaml"; it must be text or json\n',
    });
    expect((await print(['--print-config'], { HTTP_PORT: '0' })).status).toBe(2);
    expect(await print(['--print-config'], { SAND_LISTNE: '::1' })).toMatchObject({
      status: 0,
      stderr: 'sand-agent: SAND_LISTNE in the environment is no setting; SAND_LISTEN is one\n',
    });
  });
});
