/** The Debian package, on a host whose /usr, /etc and /var are its own: nothing of the machine is changed. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { COMMANDS } from '../../cli/commands/index.js';
import { SETTINGS } from '../../daemon/settings.js';
import { makePackage } from '../../packaging/deb/main.js';
import { ok } from '../support/command.js';
import type { DockerHost } from '../support/docker-host.js';
import { DockerLab } from '../support/docker-lab.js';
import { ping, runSleeper } from '../support/sand-lab.js';
import { until } from '../support/until.js';

/** Overlays of these take what the package writes. */
const MADE_OURS = ['/usr', '/etc', '/var'];

const FAST = ['-Zgzip', '-z1'];

let directory: string;
let file: string;
let lab: DockerLab;
let host: DockerHost;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sandpackage-'));
  file = await makePackage(directory, FAST);
  lab = await DockerLab.start({ hosts: 1 });
  host = lab.host(1);
  for (const path of MADE_OURS) {
    const at = join(host.root, `own${path}`);
    await mkdir(join(at, 'upper'), { recursive: true });
    await mkdir(join(at, 'work'));
    const options = `lowerdir=${path},upperdir=${at}/upper,workdir=${at}/work`;
    await host.exec(['mount', '-t', 'overlay', 'overlay', '-o', options, path]);
  }
}, 120_000);
afterAll(async () => {
  await lab?.stop();
  await rm(directory, { recursive: true, force: true });
});

const isThere = async (path: string) => (await host.run(['test', '-e', path])).status === 0;

it('is the same content twice', async () => {
  const again = await mkdtemp(join(tmpdir(), 'sandpackage-'));
  try {
    const second = await makePackage(again, FAST);
    expect(await ok(['cmp', file, second])).toBe('');
  } finally {
    await rm(again, { recursive: true });
  }
});

it('is installed without starting anything', async () => {
  const said = await host.exec(['dpkg', '--install', file]);
  expect(said).toContain('systemctl enable --now sand');
  expect(await host.exec(['sand-agent', '--version'])).toMatch(/^v\d/);
  expect(await isThere('/run/docker/plugins/sand.sock')).toBe(false);
});

it('has a unit that systemd understands', async () => {
  const unit = '/usr/lib/systemd/system/sand.service';
  const { stdout, stderr } = await host.run(['systemd-analyze', 'verify', '--man=no', unit]);
  expect(`${stdout}${stderr}`.split('\n').filter(line => line.includes('sand'))).toEqual([]);
  expect(await host.run(['systemd-analyze', 'verify', '/nonexistent.service'])).toMatchObject({ status: 1 });
});

it('brings man pages that name every setting and every command, without a warning of groff', async () => {
  const page = async (name: string) => {
    const { status, stdout, stderr } = await host.run(['man', '--warnings', name], {
      env: { MANWIDTH: '500', LC_ALL: 'C.UTF-8' },
    });
    expect([name, status, stderr]).toEqual([name, 0, '']);
    return stdout;
  };
  const agent = await page('sand-agent');
  for (const { flag, env } of Object.values(SETTINGS))
    for (const name of [`--${flag}`, ...env]) expect(agent).toContain(name);
  const cli = await page('sand-agent-cli');
  for (const { name, flags } of COMMANDS)
    for (const word of [name, ...Object.keys(flags)]) expect(cli).toContain(word);
});

it('runs as its unit says: an embedded etcd, the driver, the API and the command line', async () => {
  const unit = await host.exec(['cat', '/usr/lib/systemd/system/sand.service']);
  const [, program = ''] = /^ExecStart=(\S+)$/m.exec(unit) ?? [];
  const agent = host.spawn([program], {
    stdio: 'ignore',
    env: { PATH: '/usr/bin:/bin', PEER_IP: host.address },
  });
  const ended = new Promise(resolve => agent.once('exit', resolve));
  try {
    await until(() => isThere('/run/sand/api.sock'), { what: 'the API is there', timeoutMs: 20_000 });
    const url = ['--api-url', 'unix:///run/sand/api.sock'];
    expect(await host.exec(['sand-agent-cli', ...url, 'network-create', '--name', 'shop'])).toContain(
      'name=shop',
    );
    await host.docker(
      'network',
      'create',
      '--driver',
      'sand',
      '--ipam-driver',
      'null',
      '--opt',
      'sand-name=shop',
      'shop',
    );
    await runSleeper(host, 'one', '--network', 'shop');
    await runSleeper(host, 'two', '--network', 'shop');
    await ping(host, 'one', 'two');
    expect(await isThere('/var/lib/sand/etcd')).toBe(true);
    await host.docker('rm', '--force', 'one', 'two');
    await host.docker('network', 'rm', 'shop');
  } finally {
    agent.kill('SIGTERM');
    await ended;
  }
});

it('is removed, with all but the configuration; purged, it leaves a cluster’s etcd and says so', async () => {
  const before = (await host.exec(['dpkg-query', '--listfiles', 'sand'])).trim().split('\n');
  const files = [];
  for (const path of before) if ((await host.run(['test', '-d', path])).status !== 0) files.push(path);
  expect(files.length).toBeGreaterThan(20);
  await host.exec(['dpkg', '--remove', 'sand']);
  const left = [];
  for (const path of files) if (await isThere(path)) left.push(path);
  expect(left).toEqual(['/etc/default/sand']);
  expect(await host.exec(['dpkg', '--purge', 'sand'])).toContain('/var/lib/sand is left');
  expect(await isThere('/etc/default/sand')).toBe(false);
});
