import type { AgentProcess } from '../support/agent-process.js';
import type { DockerHost } from '../support/docker-host.js';
import { addressOf, FRESH_BITS, MovingLab } from '../support/moving-lab.js';
import { addressIn, ping, removeContainers, runSleeper } from '../support/sand-lab.js';

const SOCKET = { socket: '/run/docker/plugins/sand.sock' };

describe('Docker networks of the original whose addresses are of Docker’s own IPAM', () => {
  let lab: MovingLab;
  let one: DockerHost;
  let ours: AgentProcess;
  let id: string;
  beforeAll(async () => {
    lab = await MovingLab.start();
    one = lab.host(1);
    const legacy = await lab.startLegacy(1, SOCKET);
    id = lab.newId();
    await legacy.createNetwork(id);
    const create = (...flags: readonly string[]) =>
      one.docker('network', 'create', '--driver', 'sand', '--opt', `sand-id=${id}`, ...flags);
    await create('--subnet', '10.0.0.0/24', '--ip-range', '10.0.0.128/25', 'inside');
    await create('outside');
    await runSleeper(one, 'before', '--network=inside');
    await runSleeper(one, 'stranger', '--network=outside');
    await legacy.stop();
    ours = await lab.startOurs(1);
  }, 60_000);
  afterAll(() => lab?.stop());

  it('a new container gets the address that Docker chose, when it is in the range and free', async () => {
    await runSleeper(one, 'after', '--network=inside');
    await ping(one, 'after', await addressIn(one, 'before', 'inside'));
    const address = await addressIn(one, 'after', 'inside');
    expect((await lab.endpoints(id)).map(addressOf)).toContain(address);
    expect(await lab.bits(id)).toContain(Number(address.split('.')[3]));
  });

  it('an address outside the range is refused with the range, and changes nothing', async () => {
    const before = await lab.etcd.keys('/sc-net/');
    const { stderr } = await one.dockerFails('run', '--rm', '--network=outside', 'busybox', 'true');
    expect(stderr).toMatch(/address 172\.\S+ is not a host address of 10\.0\.0\.0\/24/);
    // But for the binding, which is written at the first call for a Docker network of the original.
    const keys = (await lab.etcd.keys('/sc-net/')).filter(key => !key.includes('/network.bindings/'));
    expect(keys).toEqual(before.filter(key => !key.includes('/network.bindings/')));
  });

  it('all of it can be removed, and nothing is left', async () => {
    await removeContainers(one, 'before', 'after', 'stranger');
    for (const name of ['inside', 'outside']) await one.docker('network', 'rm', name);
    expect((await lab.etcd.keys('/')).sort()).toEqual([`/sc-net/ipalloc/${id}`, `/sc-net/network/${id}`]);
    expect(await lab.bits(id)).toEqual(FRESH_BITS);
    expect((await ours.log()).split('\n').filter(line => / ERROR /.test(line))).toEqual([]);
  });
});
