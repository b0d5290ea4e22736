/** What befalls a managed plugin and its Docker, while two hosts' containers talk: nothing of it costs them a packet. */
import type { DockerHost } from '../support/docker-host.js';
import { DockerLab } from '../support/docker-lab.js';
import { ManagedPlugin, managedNetwork, pluginLog, pluginPid } from '../support/managed-plugin.js';
import { addressIn, netnsOf, ping, runSleeper } from '../support/sand-lab.js';
import { SteadyPing } from '../support/steady-ping.js';
import { SteadyStream } from '../support/steady-stream.js';
import { unixRequest } from '../support/unix-http.js';
import { until } from '../support/until.js';

const STALL_MS = 1_000;
const ALWAYS = ['--restart', 'always', '--network', 'shop'];

let lab: DockerLab;
let plugin: ManagedPlugin;
let first: DockerHost;
let second: DockerHost;
let address: string;
const figures: string[] = [];

/** The first host holds the etcd of both. */
beforeAll(async () => {
  lab = await DockerLab.start({ dockerdFlags: ['--live-restore'] });
  [first, second] = [lab.host(1), lab.host(2)];
  plugin = await ManagedPlugin.publish(lab);
  await plugin.publishAgain('2', '9.9.9');
  await plugin.install(first, `SAND_ETCD_LISTEN=${first.address}`);
  const value = () => pluginLog(first).then(log => /ETCD_HOSTS=(sand\+tls:\S+)/.exec(log)?.[1]);
  await plugin.install(second, `ETCD_HOSTS=${await until(value, { what: 'the join value is printed' })}`);
  for (const [host, name] of [
    [first, 'one'],
    [second, 'two'],
  ] as const) {
    await host.docker(...managedNetwork('shop'));
    await runSleeper(host, name, ...ALWAYS);
  }
  address = await addressIn(second, 'two', 'shop');
}, 90_000);
afterAll(async () => {
  await lab?.stop();
  process.stdout.write(`${figures.join('\n')}\n`);
});

/** Runs `work` under a ping 20 times a second and a TCP stream between the two hosts. */
async function underTraffic(what: string, work: () => Promise<unknown>): Promise<void> {
  await using pings = await SteadyPing.start(first, 'one', address);
  const [from, to] = await Promise.all([netnsOf(first, 'one'), netnsOf(second, 'two')]);
  await using stream = await SteadyStream.start(
    { host: first, netns: from },
    { host: second, netns: to, address },
  );
  const began = performance.now();
  await work();
  const ms = performance.now() - began;
  const lost = await pings.lost();
  expect(await stream.isWhole()).toBe(true);
  const { longestGapMs: gap } = stream;
  figures.push(
    `${what}: ${ms.toFixed(0)} ms, ${pings.answered.length} pings answered, ${lost.length} lost, longest gap ${gap.toFixed(0)} ms`,
  );
  expect(lost).toEqual([]);
  expect(gap).toBeLessThan(STALL_MS);
}

/** Soon, where the other host has to find its etcd again before it learns of a new container. */
const reaches = (host: DockerHost, container: string, what: string) =>
  until(() => ping(host, container, what).then(() => true), {
    what: `${container} reaches ${what}`,
    timeoutMs: 10_000,
  });

/** A container that comes now can reach the other host: the plugin serves, and etcd and the kernel with it. */
async function serves(host = first): Promise<void> {
  await runSleeper(host, 'late', '--network', 'shop');
  try {
    await reaches(host, 'late', address);
  } finally {
    await host.docker('rm', '--force', 'late');
  }
}

const version = async () => {
  const { text } = await unixRequest({ socket: first.path('/run/sand/api.sock'), path: '/version' });
  return JSON.parse(text).version as string;
};

/**
 * What a service manager does (docker.service: Restart=on-failure). When dockerd 20.10 did not get an enabled plugin up
 * at its start, it dereferences the client that it has not got; the next start finds the plugin stopped and enables it.
 */
async function restartUntilUp(signal: NodeJS.Signals): Promise<void> {
  await first.restartDockerd([], signal).catch(async (failure: Error) => {
    if (!/panic: .*\(\*driver\)\.getCapabilities/s.test(failure.message)) throw failure;
    figures.push(`${signal} of dockerd: it crashed at its start and was started again. ${failure.message}`);
    await first.startDockerd();
  });
}

const command = (...args: string[]) => first.docker('plugin', ...args);

describe('no packet is lost by', () => {
  it('disable --force and enable', async () => {
    await underTraffic('disable, enable', async () => {
      await command('disable', '--force', 'sand-net');
      await command('enable', 'sand-net');
      await serves();
    });
  });

  it.each([
    ['2', 'v9.9.9'],
    ['1', 'v0.1.0'],
  ])('an upgrade to, and a downgrade from, another version: tag %s', async (tag, expected) => {
    await underTraffic(`upgrade to tag ${tag}`, async () => {
      await command('disable', '--force', 'sand-net');
      const flags = ['--grant-all-permissions', '--skip-remote-check'];
      await command('upgrade', ...flags, 'sand-net', plugin.reference(tag));
      await command('enable', 'sand-net');
      await serves();
    });
    expect(await version()).toBe(expected);
  });

  it('SIGKILL of the plugin', async () => {
    const before = await pluginPid(first);
    await underTraffic('SIGKILL of the plugin', async () => {
      process.kill(before, 'SIGKILL');
      await until(async () => (await pluginPid(first)) !== before, { what: 'dockerd starts it again' });
      await serves();
    });
  });

  it.each(['SIGTERM', 'SIGKILL'] as const)('%s of dockerd with --live-restore', async signal => {
    await underTraffic(`${signal} of dockerd, live-restore`, async () => {
      await first.restartDockerd(undefined, signal);
      await serves();
    });
  });

  it('SIGKILL of dockerd and containerd with --live-restore', async () => {
    await underTraffic('SIGKILL of dockerd and containerd, live-restore', async () => {
      await first.stopDockerd('SIGKILL');
      await first.restartContainerd('SIGKILL');
      await first.startDockerd();
      await serves();
    });
  });
});

describe('where Docker ends the containers', () => {
  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'after %s of dockerd without --live-restore all are connected again',
    async signal => {
      await restartUntilUp(signal);
      const running = () => first.docker('inspect', '--format', '{{.State.Running}}', 'one');
      await until(async () => (await running()) === 'true', {
        what: 'Docker restarts it',
        timeoutMs: 30_000,
      });
      await reaches(first, 'one', address);
      await reaches(second, 'two', await addressIn(first, 'one', 'shop'));
      await serves();
    },
    90_000,
  );
});
