import type { PluginAnswer } from '../support/agent-process.js';
import { DockerCalls, errorOf } from '../support/docker-calls.js';
import type { DockerHost } from '../support/docker-host.js';
import { type Snapshot, snapshot, untilNothingLeft } from '../support/leftovers.js';
import { addressIn, createNamed, ping, removeContainers, runSleeper, SandLab } from '../support/sand-lab.js';
import { until } from '../support/until.js';

const ANSWER_WITHIN_MS = 12_000; // of docker's 30
const USUALLY_WITHIN_MS = 7_000;

describe('while etcd is away', () => {
  let sand: SandLab;
  let one: DockerHost;
  let calls: DockerCalls;
  let before: Snapshot;
  beforeAll(async () => {
    sand = await SandLab.start();
    one = sand.host(1);
    calls = new DockerCalls(one);
    before = await snapshot(one, { etcd: sand.etcd });
  });
  afterAll(() => sand?.stop());

  const WAYS = {
    frozen: { go: async () => sand.etcd.pause(), comeBack: async () => sand.etcd.resume() },
    killed: { go: () => sand.etcd.kill(), comeBack: () => sand.etcd.restart() },
  } as const;
  let away: keyof typeof WAYS | undefined;
  const go = async (how: keyof typeof WAYS) => {
    away = how;
    await WAYS[how].go();
  };
  const comeBack = async () => {
    if (away) await WAYS[away].comeBack();
    away = undefined;
  };
  afterEach(comeBack);
  const nothingLeft = () => untilNothingLeft(one, before, { etcd: sand.etcd, timeoutMs: 10_000 });

  /** Refused in time, with a text that names etcd. */
  async function refused(answer: Promise<PluginAnswer>, withinMs = ANSWER_WITHIN_MS): Promise<void> {
    const got = await answer;
    expect(errorOf(got)).toContain('etcd');
    expect(got.ms).toBeLessThan(withinMs);
  }

  /** Success in time: Docker does not come again. */
  async function accepted(answer: Promise<PluginAnswer>): Promise<void> {
    const { status, body, ms } = await answer;
    expect({ status, body }).toEqual({ status: 200, body: {} });
    expect(ms).toBeLessThan(ANSWER_WITHIN_MS);
  }

  describe.each(['frozen', 'killed'] as const)('%s', how => {
    it('each creating call is refused in time, and nothing is left when etcd is back', async () => {
      const names = ['old', 'addresses', 'endpoints', 'joins'];
      const [old, addresses, endpoints, joins] = await Promise.all(names.map(name => calls.network(name)));
      if (!old || !addresses || !endpoints || !joins) throw new Error('no network');
      const promised = await calls.pool('networks');
      const [reserved, created] = await Promise.all([calls.address(endpoints), calls.endpoint(joins)]);
      await go(how);
      const refusals = [
        refused(calls.requestPool('new')),
        refused(calls.requestPool('old')),
        refused(calls.requestAddress(addresses.PoolID)),
        refused(calls.createNetwork(promised)),
        refused(calls.createEndpoint(reserved)),
      ];
      // The interface is the kernel's work alone: a container that has its endpoint starts.
      expect((await calls.join(created)).body).toMatchObject({ InterfaceName: { DstPrefix: 'sand' } });
      for (const { status, reason } of await settled(refusals)) if (status === 'rejected') throw reason;
      // What Docker does after each refusal, while etcd is away still
      await Promise.all([
        accepted(calls.releaseAddress(promised.PoolID, promised.Gateway)),
        accepted(calls.releasePool(promised.PoolID)),
        accepted(calls.releaseAddress(reserved.PoolID, reserved.Address)),
        accepted(calls.deleteEndpoint(created)),
        accepted(calls.releaseAddress(created.PoolID, created.Address)),
      ]);
      await comeBack();
      await Promise.all(
        [old, addresses, endpoints, joins].map(each => accepted(calls.deleteNetwork(each.NetworkID))),
      );
      await nothingLeft();
    }, 60_000);

    it('a call is refused within 7 s, and works as soon as etcd is back', async () => {
      const network = await calls.network('again');
      await go(how);
      await Promise.all([
        refused(calls.requestAddress(network.PoolID), USUALLY_WITHIN_MS),
        refused(calls.requestPool('new'), USUALLY_WITHIN_MS),
      ]);
      await comeBack();
      const endpoint = await until(() => calls.joined(network), { what: 'a container starts again' });
      await calls.remove(endpoint);
      await accepted(calls.deleteNetwork(network.NetworkID));
      await nothingLeft();
    }, 60_000);

    it.each(['goes on', 'is killed and started again'])(
      'teardown is accepted and carried out when etcd is back, by an agent that %s',
      async fate => {
        const [kept, gone] = await Promise.all(['kept', 'gone'].map(name => calls.network(name)));
        if (!kept || !gone) throw new Error('no network');
        const endpoint = await calls.joined(kept);
        await go(how);
        await accepted(calls.leave(endpoint));
        await accepted(calls.deleteEndpoint(endpoint));
        await accepted(calls.releaseAddress(endpoint.PoolID, endpoint.Address));
        await accepted(calls.releaseAddress(gone.PoolID, gone.Gateway));
        await accepted(calls.releasePool(gone.PoolID));
        await accepted(calls.deleteNetwork(gone.NetworkID));
        // The kernel's part is not put off
        await untilNothingLeft(one, { ...before, keys: [] }, { timeoutMs: 2_000 });
        if (fate !== 'goes on') {
          await sand.agent(1).kill();
          await sand.startAgent(1);
        }
        await comeBack();
        const names = async () => (await sand.networks()).map(({ name }) => name);
        await until(async () => (await names()).join() === 'kept', {
          what: 'one network is gone',
          timeoutMs: 10_000,
        });
        const ofContainers = async () =>
          (await sand.etcd.keys('/')).filter(key => /endpoints|address-owners|nodes/.test(key));
        await until(async () => (await ofContainers()).length === 0, { what: 'the endpoint is gone' });
        await accepted(calls.deleteNetwork(kept.NetworkID));
        await nothingLeft();
      },
      60_000,
    );
  });

  it('docker says in words what is wrong, and containers run, stop and go as ever', async () => {
    await createNamed(one, 'shop');
    await Promise.all([
      runSleeper(one, 'running', '--network=shop'),
      runSleeper(one, 'other', '--network=shop'),
    ]);
    const address = await addressIn(one, 'running', 'shop');
    await go('killed');
    const attempts = [
      one.dockerFails('run', '--rm', '--network=shop', 'busybox', 'true'),
      one.dockerFails(
        'network',
        'create',
        '-d',
        'sand',
        '--ipam-driver',
        'null',
        '--opt',
        'sand-name=x',
        'x',
      ),
    ];
    for (const { stderr, ms } of await Promise.all(attempts)) {
      expect(stderr).toMatch(/etcd at http:\/\/10\.78\.0\.1:\d+ .*check/);
      expect(ms).toBeLessThan(ANSWER_WITHIN_MS);
    }
    await ping(one, 'other', address);
    const startedAt = performance.now();
    await removeContainers(one, 'running', 'other');
    await one.docker('network', 'rm', 'shop');
    expect(performance.now() - startedAt).toBeLessThan(USUALLY_WITHIN_MS);
    await comeBack();
    const gone = async () => (await sand.etcd.keys('/')).length === 0;
    await until(gone, { what: 'etcd is empty', timeoutMs: 10_000 });
  }, 60_000);

  it('an agent that starts meanwhile answers Docker at once, and works when etcd comes', async () => {
    await sand.agent(1).stop();
    await go('killed');
    // Of three starts the fastest, on a machine that may be busy with other work: a bare node takes 45 ms on a quiet one
    const starts: number[] = [];
    const bare: number[] = [];
    for (let start = 0; start < 3; start++) {
      if (start > 0) await sand.agent(1).kill();
      starts.push((await sand.startAgent(1)).startMs);
      const startedAt = performance.now();
      await one.exec([process.execPath, '-e', '0']);
      bare.push(performance.now() - startedAt);
    }
    expect(Math.min(...starts)).toBeLessThan(Math.max(400, 8 * Math.min(...bare)));
    for (const method of [
      'NetworkDriver.GetCapabilities',
      'IpamDriver.GetCapabilities',
      'IpamDriver.GetDefaultAddressSpaces',
    ]) {
      const { status, ms } = await calls.call(method);
      expect({ status, soon: ms < 1_000 }).toEqual({ status: 200, soon: true });
    }
    await refused(calls.requestPool('new'));
    await comeBack();
    const network = await until(() => calls.network('late'), {
      what: 'a network is made',
      timeoutMs: 10_000,
    });
    await accepted(calls.deleteNetwork(network.NetworkID));
    await until(async () => (await sand.etcd.keys('/')).length === 0, { what: 'etcd is empty' });
  }, 60_000);
});

/** `Promise.allSettled`, so that a test's first failure leaves no call behind that the next test trips over. */
const settled = async (promises: readonly Promise<void>[]) =>
  (await Promise.allSettled(promises)).map(outcome => ({
    status: outcome.status,
    reason: outcome.status === 'rejected' ? (outcome.reason as unknown) : undefined,
  }));
