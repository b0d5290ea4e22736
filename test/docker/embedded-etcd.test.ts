import { join } from 'node:path';
import { AgentProcess } from '../support/agent-process.js';
import { run } from '../support/command.js';
import { DockerLab } from '../support/docker-lab.js';
import { addressIn, createNamed, ping, removeContainers, runSleeper } from '../support/sand-lab.js';
import { processesOf } from '../support/sweep.js';
import { until } from '../support/until.js';

describe('an agent without ETCD_HOSTS', () => {
  let lab: DockerLab;
  let agent: AgentProcess;
  beforeAll(async () => {
    lab = await DockerLab.start();
    agent = await start(1);
  });
  afterAll(() => lab?.stop());

  function start(number: number, env: Readonly<Record<string, string>> = {}, ...flags: readonly string[]) {
    const { address, root } = lab.host(number);
    const own = { PEER_IP: address, SAND_STATE_DIR: join(root, 'state'), ETCD_HOSTS: '' };
    return AgentProcess.start(lab.host(number), { env: { ...own, ...env }, flags });
  }

  /** Processes of etcd in the lab. */
  async function etcds(): Promise<string[]> {
    const pids = await processesOf(lab.claim);
    const { stdout } = await run(['ps', '-o', 'comm=', '-p', pids.join(',')]);
    return stdout.split('\n').filter(name => name === 'etcd');
  }

  it('makes networks and containers with an etcd of its own', async () => {
    const host = lab.host(1);
    await createNamed(host, 'shop');
    await Promise.all([runSleeper(host, 'one', '--network=shop'), runSleeper(host, 'two', '--network=shop')]);
    await ping(host, 'one', await addressIn(host, 'two', 'shop'));
    expect(await agent.log()).toContain('etcd embedded in this agent');
    expect(await etcds()).toHaveLength(1);
  });

  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'its etcd goes with it by %s, and its data comes back',
    async signal => {
      const host = lab.host(1);
      if (signal === 'SIGKILL') await agent.kill();
      else expect((await agent.stop()).ms).toBeLessThan(1_000);
      await until(async () => (await etcds()).length === 0, { what: 'etcd has ended' });
      await ping(host, 'one', await addressIn(host, 'two', 'shop'));
      agent = await start(1);
      await runSleeper(host, 'three', '--network=shop');
      await ping(host, 'three', await addressIn(host, 'one', 'shop'));
      await removeContainers(host, 'three');
    },
  );

  it('--etcd-listen opens it to a second host, which needs the printed ETCD_HOSTS and nothing else', async () => {
    const [one, two] = [lab.host(1), lab.host(2)];
    await agent.stop();
    agent = await start(1, {}, '--etcd-listen', one.address);
    const printed = async () =>
      /another host joins with .*command=("(?:[^"\\]|\\.)*")/.exec(await agent.log())?.[1];
    const command = JSON.parse(
      await until(printed, { what: 'the command is printed', timeoutMs: 15_000 }),
    ) as string;
    const [, value = ''] = /^ETCD_HOSTS=(\S+) sand-agent$/.exec(command) ?? [];
    await start(2, { ETCD_HOSTS: value });
    await createNamed(two, 'shop');
    await runSleeper(two, 'there', '--network=shop');
    const address = await addressIn(two, 'there', 'shop');
    await ping(one, 'one', address);
    await ping(two, 'there', await addressIn(one, 'one', 'shop'));
    expect(
      new Set([address, await addressIn(one, 'one', 'shop'), await addressIn(one, 'two', 'shop')]).size,
    ).toBe(3);
    const stranger = ['--endpoints', `https://${one.address}:2379`, '--insecure-skip-tls-verify', 'get', '/'];
    const env = { ETCDCTL_API: '3' };
    const { status } = await two.run(['etcdctl', '--command-timeout=2s', ...stranger], { env });
    expect(status).not.toBe(0);
  });
});
