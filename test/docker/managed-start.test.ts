/** The start of a managed plugin in the worst of worlds, and its short name in a Docker that never knew another. */
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { DockerHost } from '../support/docker-host.js';
import { DockerLab } from '../support/docker-lab.js';
import { DRIVER, ManagedPlugin, managedNetwork, pluginLog, pluginPid } from '../support/managed-plugin.js';
import { ping, removeContainers, runSleeper } from '../support/sand-lab.js';
import { unixRequest } from '../support/unix-http.js';
import { until } from '../support/until.js';

const SHORT = '/run/docker/plugins/sand.sock';
const READY_WITHIN_MS = 400;

let lab: DockerLab;
let plugin: ManagedPlugin;
let host: DockerHost;

beforeAll(async () => {
  lab = await DockerLab.start({ hosts: 2 });
  host = lab.host(1);
  plugin = await ManagedPlugin.publish(lab);
}, 60_000);
afterAll(() => lab?.stop());

/** From an enabled plugin's SIGKILL, which dockerd answers with a start, to the first answer on its socket. */
async function restartMs(on: DockerHost): Promise<number> {
  const id = await on.docker('plugin', 'inspect', '--format', '{{.Id}}', 'sand-net');
  // The whole path has more bytes than a unix socket's may.
  await using directory = await open(on.path('/run/docker/plugins'));
  const socket = `/proc/self/fd/${directory.fd}/${id}/sand.sock`;
  const before = await pluginPid(on);
  process.kill(before, 'SIGKILL');
  const started = await until(async () => (await pluginPid(on)) !== before && performance.now(), {
    everyMs: 1,
  });
  const activate = { socket, method: 'POST', path: '/Plugin.Activate', timeoutMs: 1_000 } as const;
  await until(async () => (await unixRequest(activate)).status === 200, { everyMs: 2 });
  return performance.now() - started;
}

const enabled = (on: DockerHost) => on.docker('plugin', 'inspect', '--format', '{{.Enabled}}', 'sand-net');

describe('a start', () => {
  it.each([
    ['with an etcd of its own', []],
    ['while nothing answers for etcd', ['ETCD_HOSTS=http://10.78.0.99:2379', 'PEER_IP=10.78.0.12']],
    ['without the VTEP address', ['ETCD_HOSTS=', 'PEER_IP=10.9.9.9']],
    ['with a broken setting', ['PEER_IP=none']],
  ])(`%s: its socket answers within ${READY_WITHIN_MS} ms, and it stays enabled`, async (what, settings) => {
    const on = lab.host(2);
    const isThere = await on.docker('plugin', 'ls', '--quiet');
    if (isThere === '') await plugin.install(on, ...settings);
    else {
      await on.docker('plugin', 'disable', '--force', 'sand-net');
      await on.docker('plugin', 'set', 'sand-net', ...settings);
      await on.docker('plugin', 'enable', 'sand-net');
    }
    const ms = await restartMs(on);
    process.stdout.write(`socket answers ${what}: ${ms.toFixed(0)} ms\n`);
    expect(ms).toBeLessThan(READY_WITHIN_MS);
    // Docker has come back to it. Disabled within half a second of that start, it takes Docker 12 s (20.10).
    await on.dockerFails(...managedNetwork('probe'), '--opt', 'nonsense=1');
    expect(await enabled(on)).toBe('true');
  });
});

describe('--driver sand', () => {
  it('works beside the plugin’s own name, in a fresh dockerd and in the next', async () => {
    await plugin.install(host);
    await host.docker(...managedNetwork('short', 'sand'));
    await host.docker(...managedNetwork('long', DRIVER));
    for (const network of ['short', 'long']) {
      await runSleeper(host, `${network}-one`, '--network', network);
      await runSleeper(host, `${network}-two`, '--restart', 'always', '--network', network);
      await ping(host, `${network}-one`, `${network}-two`);
    }
    await removeContainers(host, 'short-one', 'long-one');
    await host.restartDockerd();
    for (const network of ['short', 'long']) {
      const running = () => host.docker('inspect', '--format', '{{.State.Running}}', `${network}-two`);
      await until(async () => (await running()) === 'true', {
        what: 'Docker restarts it',
        timeoutMs: 20_000,
      });
      await runSleeper(host, `${network}-one`, '--network', network);
      await ping(host, `${network}-one`, `${network}-two`);
    }
    await removeContainers(host, 'short-one', 'long-one', 'short-two', 'long-two');
    await host.docker('network', 'rm', 'short', 'long');
  }, 90_000);

  it('leaves nothing behind when the plugin is disabled', async () => {
    await host.docker('plugin', 'disable', '--force', 'sand-net');
    expect((await host.run(['test', '-e', SHORT])).status).toBe(1);
  });

  it('leaves a socket alone that a living process has, and takes a dead one’s', async () => {
    const server = `require('node:net').createServer().listen('${SHORT}')`;
    const other = host.spawn([process.execPath, '--eval', server], { stdio: 'ignore' });
    const listens = async () => (await host.exec(['ss', '-Hlx', `src = ${SHORT}`])) !== '';
    await until(listens, { what: 'another process has the socket' });
    const before = (await pluginLog(host)).length;
    await host.docker('plugin', 'enable', 'sand-net');
    const added = async () => (await pluginLog(host)).slice(before);
    await until(async () => /short name of the driver not served/.test(await added()), {
      what: 'it is logged',
    });
    await host.docker(...managedNetwork('long'));
    other.kill('SIGKILL');
    await until(async () => /served under its short name/.test(await added()), {
      what: 'the plugin takes it over',
      timeoutMs: 10_000,
    });
  });
});

describe('what happened while the plugin was disabled', () => {
  it('is settled after its start: a container that is gone, and Docker networks that Docker does not know', async () => {
    const shown = async (path: string) => {
      const { text } = await unixRequest({ socket: host.path('/run/sand/api.sock'), path });
      return JSON.parse(text);
    };
    await host.docker(...managedNetwork('gone'));
    await runSleeper(host, 'left', '--network', 'gone');
    const recorded = async () => (await shown('/endpoints')).endpoints[0]?.target_netns_path !== '';
    await until(recorded, { what: 'its sandbox is recorded' });
    expect((await shown('/endpoints')).endpoints).toHaveLength(1);
    const container = Number(await host.docker('inspect', '--format', '{{.State.Pid}}', 'left'));
    const sandbox = await host.docker('inspect', '--format', '{{.NetworkSettings.SandboxKey}}', 'left');
    await host.docker('plugin', 'disable', '--force', 'sand-net');
    await host.stopDockerd('SIGKILL');
    process.kill(container, 'SIGKILL');
    // As dockerd does when a container ends while the plugin is disabled.
    await host.exec(['umount', '--lazy', sandbox]);
    await rm(host.path(join(host.root, 'docker/network/files/local-kv.db')));
    await host.startDockerd();
    await host.docker('plugin', 'enable', 'sand-net');
    const settled = async () =>
      (await shown('/networks')).networks.length + (await shown('/endpoints')).endpoints.length === 0;
    await until(settled, { what: 'nothing of it is left', timeoutMs: 40_000 });
  }, 90_000);
});
