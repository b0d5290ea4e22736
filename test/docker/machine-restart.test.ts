/** A machine restarts: all of its processes end at once, its namespaces are gone, and files of before lie about. */
import { readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AgentProcess } from '../support/agent-process.js';
import type { DockerHost } from '../support/docker-host.js';
import { DockerLab } from '../support/docker-lab.js';
import { addressIn, createNamed, overlayPath, ping, runSleeper } from '../support/sand-lab.js';
import { processesOf } from '../support/sweep.js';
import { until } from '../support/until.js';

const CLI = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const ALWAYS = ['--restart', 'always', '--network', 'shop'];

let lab: DockerLab;
let first: DockerHost;
let second: DockerHost;
/** ETCD_HOSTS of the second host. */
let joinValue: string;

const start = (host: DockerHost, env: Readonly<Record<string, string>> = {}) =>
  AgentProcess.start(host, {
    env: { PEER_IP: host.address, SAND_STATE_DIR: join(host.root, 'state'), ETCD_HOSTS: '', ...env },
  });
const withEtcd = () => start(first, { SAND_ETCD_LISTEN: first.address });

beforeAll(async () => {
  lab = await DockerLab.start();
  [first, second] = [lab.host(1), lab.host(2)];
  const agent = await withEtcd();
  const printed = async () => /ETCD_HOSTS=(sand\+tls:[^\s"]+)/.exec(await agent.log())?.[1];
  joinValue = await until(printed, { what: 'the join value is printed', timeoutMs: 15_000 });
  await start(second, { ETCD_HOSTS: joinValue });
  for (const [host, name] of [
    [first, 'one'],
    [second, 'two'],
  ] as const) {
    await createNamed(host, 'shop');
    await runSleeper(host, name, ...ALWAYS);
  }
  await ping(first, 'one', await addressIn(second, 'two', 'shop'));
}, 60_000);
afterAll(() => lab?.stop());

/** Everything in the host's mount namespace or below it: agent, etcd, dockerd, containerd, shims, containers. */
async function endAll(host: DockerHost): Promise<void> {
  const containers = (await host.docker('ps', '--quiet')).split('\n').filter(Boolean);
  const inits = await Promise.all(
    containers.map(id => host.docker('inspect', '--format', '{{.State.Pid}}', id)),
  );
  const own = await readlink(`/proc/${host.namespaces.pid}/ns/mnt`);
  const isOwn = async (pid: number) => (await readlink(`/proc/${pid}/ns/mnt`).catch(() => '')) === own;
  const pids = inits.map(Number);
  for (const pid of await processesOf(lab.claim)) {
    if (pid !== host.namespaces.pid && (await isOwn(pid))) pids.push(pid);
  }
  for (const pid of pids) process.kill(pid, 'SIGKILL');
  await until(async () => (await Promise.all(pids.map(isOwn))).every(there => !there), {
    what: 'all have ended',
  });
}

/** The namespaces end; their files stay, and so do the sockets. */
async function endNamespaces(host: DockerHost): Promise<void> {
  for (const directory of ['/run/netns', '/run/docker/netns']) {
    for (const name of await readdir(host.path(directory)).catch(() => [])) {
      while ((await host.run(['umount', '--lazy', `${directory}/${name}`])).status === 0);
    }
  }
  await host.exec([
    'rm',
    '--recursive',
    '--force',
    '/run/containerd',
    '/run/docker.pid',
    '/run/docker/containerd',
    '/run/docker/runtime-runc',
  ]);
}

async function boot(host: DockerHost, agent: () => Promise<unknown>): Promise<void> {
  await agent();
  await host.restartContainerd('SIGKILL');
  await host.startDockerd();
}

/** Both ways, as soon as Docker has its container up again. */
async function connected(): Promise<void> {
  const reaches = (host: DockerHost, name: string, other: () => Promise<string>) =>
    until(async () => ping(host, name, await other()).then(() => true), {
      what: `${name} reaches the other`,
      timeoutMs: 15_000,
    });
  await reaches(first, 'one', () => addressIn(second, 'two', 'shop'));
  await reaches(second, 'two', () => addressIn(first, 'one', 'shop'));
}

async function endpointsOf(host: DockerHost): Promise<string[]> {
  const { stdout } = await host.run([
    process.execPath,
    CLI,
    'endpoint-list',
    '--hostname',
    host.name,
    '--json',
  ]);
  return JSON.parse(stdout).map(
    ({ target_veth_ip, host_ip }: Record<string, string>) => `${target_veth_ip} at ${host_ip}`,
  );
}

it('that holds the etcd: its data is there, and containers come back', async () => {
  await endAll(first);
  await endNamespaces(first);
  await boot(first, withEtcd);
  await connected();
  expect(await endpointsOf(first)).toHaveLength(1);
}, 90_000);

it('with another VTEP address: files of before are no obstacle, and the others follow', async () => {
  const { id } = (await JSON.parse(
    (
      await second.run([process.execPath, CLI, 'network-show', '-n', 'shop', '--json'])
    ).stdout,
  )) as { id: string };
  await endAll(second);
  await endNamespaces(second);
  expect((await second.run(['test', '-e', overlayPath(id)])).status).toBe(0);
  const moved = second.address.replace(/\d+$/, '99');
  await second.exec(['ip', 'address', 'delete', `${second.address}/24`, 'dev', 'eth0']);
  await second.exec(['ip', 'address', 'add', `${moved}/24`, 'dev', 'eth0']);
  await boot(second, () => start(second, { ETCD_HOSTS: joinValue, PEER_IP: moved }));
  await connected();
  expect(await endpointsOf(second)).toEqual([expect.stringContaining(`at ${moved}`)]);
}, 90_000);
