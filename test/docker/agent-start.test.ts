import { existsSync, statSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pluginCall } from '../support/agent-process.js';
import { DaemonProcess } from '../support/daemon-process.js';
import type { DockerHost } from '../support/docker-host.js';
import { SandLab } from '../support/sand-lab.js';

const MAIN = fileURLToPath(new URL('../../daemon/main.js', import.meta.url));
const OTHER_SOCKET = '/run/docker/plugins/other.sock';
const SOCKET = '/run/docker/plugins/sand.sock';

describe('sand-agent', () => {
  let sand: SandLab;
  let host: DockerHost;
  beforeAll(async () => {
    sand = await SandLab.start({ hosts: 1 });
    host = sand.host(1);
  });
  afterAll(() => sand?.stop());

  /** The agent with settings that must be refused: one readable line on standard error, exit status 2. */
  async function refusal(
    flags: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    const { stdout, stderr, status } = await host.run([process.execPath, MAIN, ...flags], {
      env,
      timeoutMs: 10_000,
    });
    expect({ status, stdout, stderr }).toEqual({
      status: 2,
      stdout: '',
      stderr: expect.stringMatching(/^sand-agent: [^\n]+\n$/),
    });
    return stderr;
  }

  it.each([
    ['--peer-ip', ['--peer-ip', '300.1.1.1'], {}, /--peer-ip is "300\.1\.1\.1"; it must be an IP address/],
    ['--peer-ip', ['--peer-ip', 'fd00::1'], {}, /--peer-ip .*IPv6/],
    ['PEER_IP', [], { PEER_IP: 'host-1' }, /PEER_IP is "host-1"/],
    ['PUBLIC_IP', [], { PEER_IP: '', PUBLIC_IP: '1.2.3' }, /PUBLIC_IP is "1\.2\.3"/],
    ['HTTP_PORT', [], { HTTP_PORT: '0' }, /HTTP_PORT is "0"; it must be a whole number from 1 to 65535/],
    ['PORT', [], { PORT: 'http' }, /PORT is "http"/],
    ['--vxlan-port', ['--vxlan-port', '70000'], {}, /--vxlan-port is "70000"/],
    ['MAX_VNI', [], { MAX_VNI: '16777216' }, /MAX_VNI is "16777216"/],
    [
      'SAND_VXLAN_CHECKSUM',
      [],
      { SAND_VXLAN_CHECKSUM: 'maybe' },
      /SAND_VXLAN_CHECKSUM is "maybe"; it must be on or off/,
    ],
    [
      'SAND_LOG_LEVEL',
      [],
      { SAND_LOG_LEVEL: 'loud' },
      /SAND_LOG_LEVEL is "loud"; it must be debug, info, warn, error/,
    ],
    ['NETNS_PATH', [], { NETNS_PATH: 'netns' }, /NETNS_PATH is "netns"; it must be an absolute path/],
    ['NETNS_PREFIX', [], { NETNS_PREFIX: '../' }, /NETNS_PREFIX/],
    ['PEER_HOSTNAME', [], { PEER_HOSTNAME: 'a/b' }, /PEER_HOSTNAME is "a\/b"/],
    ['ETCD_PREFIX', [], { ETCD_PREFIX: 'sc-net' }, /ETCD_PREFIX is "sc-net"/],
    ['SAND_LISTEN', [], { SAND_LISTEN: 'everywhere' }, /SAND_LISTEN is "everywhere"/],
    ['an unknown flag', ['--no-such-flag'], {}, /--no-such-flag.*--help/],
    ['a word too many', ['start'], {}, /start.*--help/],
    ['a flag without its value', ['--peer-ip'], {}, /--peer-ip/],
    ['a certificate without its key', [], { HTTP_TLS_CERT: MAIN }, /HTTP_TLS_KEY is missing/],
    ['an etcd certificate without its key', [], { ETCD_TLS_CERT: MAIN }, /ETCD_TLS_KEY is missing/],
    [
      '--etcd-listen with ETCD_HOSTS',
      ['--etcd-listen', '10.78.0.11'],
      { ETCD_HOSTS: 'http://10.78.0.1:2379' },
      /--etcd-listen .*ETCD_HOSTS/,
    ],
    ['--etcd-listen', ['--etcd-listen', 'eth0'], {}, /--etcd-listen is "eth0"/],
    ['ETCD_HOSTS', [], { ETCD_HOSTS: 'etcd://nowhere' }, /ETCD_HOSTS/],
    [
      'ETCD_CACERT of no file',
      [],
      { ETCD_HOSTS: 'https://10.78.0.1:2379', ETCD_CACERT: '/no/such/ca.pem' },
      /ca\.pem/,
    ],
    ['a file that is not there', ['--config', '/no/such/file.json'], {}, /\/no\/such\/file\.json/],
  ])('refuses %s %j %j', async (_, flags, env, text) => {
    expect(await refusal(flags, { PEER_IP: host.address, SAND_PLUGIN_SOCKET: OTHER_SOCKET, ...env })).toMatch(
      text,
    );
  });

  it.each([
    ['no JSON', '{"peer-ip": ', /config\.json/],
    ['no object', '["peer-ip"]', /must hold a JSON object/],
    ['a setting that is none', '{"peer-pi": "10.78.0.11"}', /peer-pi is no setting/],
    ['a wrong value', '{"peer-ip": "10.78.0"}', /peer-ip in the configuration file is "10\.78\.0"/],
    ['a value of a wrong type', '{"http-port": {}}', /http-port in the configuration file/],
  ])('refuses a configuration file with %s', async (_, content, text) => {
    await mkdir(join(host.root, 'etc'), { recursive: true });
    const file = join(host.root, 'etc', 'config.json');
    await writeFile(file, content);
    expect(await refusal(['--config', file])).toMatch(text);
    expect(await refusal([], { SAND_CONFIG: file })).toMatch(text);
  });

  it('asks for PEER_IP where no default route chooses among several addresses', async () => {
    await host.exec(['ip', 'addr', 'add', '10.79.0.1/24', 'dev', 'eth0']);
    const sockets = { SAND_PLUGIN_SOCKET: OTHER_SOCKET, SAND_RUN_DIR: '/run/other' };
    const env = { ETCD_HOSTS: sand.etcd.hosts.join(), ...sockets };
    expect(await refusal([], env)).toMatch(/10\.78\.0\.11, 10\.79\.0\.1: say which with PEER_IP/);
    expect(existsSync(host.path(OTHER_SOCKET))).toBe(false);
    await host.exec(['ip', 'addr', 'del', '10.79.0.1/24', 'dev', 'eth0']);
  });

  it('takes a setting from the flags before the environment before the file', async () => {
    const file = join(host.root, 'order.json');
    await writeFile(file, JSON.stringify({ 'http-port': 'file', 'peer-ip': 'file' }));
    expect(await refusal(['--config', file, '--peer-ip', 'flag'], { PEER_IP: 'environment' })).toContain(
      '"flag"',
    );
    expect(await refusal(['--config', file], { PEER_IP: 'environment' })).toContain('"environment"');
  });

  it('refuses a plugin socket that a living process serves, and leaves it alone', async () => {
    const text = await refusal([], sand.env(1));
    expect(text).toContain(`${SOCKET} is served by another process`);
    expect((await pluginCall(host, 'Plugin.Activate')).status).toBe(200);
  });

  it('serves a socket of mode 0600 and removes it at its end', async () => {
    const { mode } = statSync(host.path(SOCKET));
    expect((mode & 0o777).toString(8)).toBe('600');
    expect(await sand.agent(1).stop()).toMatchObject({ code: 0 });
    expect(existsSync(host.path(SOCKET))).toBe(false);
    await sand.startAgent(1);
  });

  it('replaces the socket of an agent that was killed', async () => {
    await sand.agent(1).kill();
    expect(existsSync(host.path(SOCKET))).toBe(true);
    const argv = [process.execPath, MAIN];
    const logFile = join(host.root, 'over-stale.log');
    const plan = { what: 'the next agent', argv, logFile, env: sand.env(1) };
    const next = await DaemonProcess.start(host.namespaces, plan);
    await next.untilReady(async () => (await pluginCall(host, 'Plugin.Activate')).status === 200, 5_000);
    // Its start is not over yet: a signal ends it all the same
    const { code, ms } = await next.stop();
    expect({ code, log: code === 0 ? '' : await next.log() }).toEqual({ code: 0, log: '' });
    expect(ms).toBeLessThan(1_500);
    expect(existsSync(host.path(SOCKET))).toBe(false);
  });

  it('--help and --version are answered on standard output, with exit status 0', async () => {
    const help = await host.exec([process.execPath, MAIN, '--help']);
    for (const flag of ['--etcd-hosts', '--peer-ip', '--etcd-listen', '--config', '[ETCD_HOSTS]']) {
      expect(help).toContain(flag);
    }
    expect(await host.exec([process.execPath, MAIN, '--version'])).toMatch(/^v\d+\.\d+\.\d+\n$/);
  });
});
