/** A machine restarts: its namespaces are gone and their files are not, its etcd records stand; without Docker's help. */
import { CrashDocker } from '../support/crash-docker.js';
import { CrashWorld } from '../support/crash-world.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';

const START_WITHIN_MS = 5_000; // a start is 0.5 s on a quiet machine; nothing may block it for a time-out's length

let etcd: EtcdCluster;
let world: CrashWorld;
beforeAll(async () => {
  etcd = await startEtcd();
  world = await CrashWorld.open(etcd, '/restart');
  await world.start();
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
  await etcd.stop();
});

const endpointsOf = async (network: string) => {
  const { text } = await world.api('GET', `/endpoints?network_id=${network}&hostname=ant`);
  return JSON.parse(text).endpoints as { id: string; active: boolean; docker?: object }[];
};

it('Docker’s endpoints go with their addresses, those of the API stay inactive, and the start waits for nothing', async () => {
  const docker = new CrashDocker(world);
  const network = await docker.createNetwork('shop');
  if (!network) throw new Error('The network could not be made');
  const containers = [await docker.run(network), await docker.run(network)];
  const netns = await world.netns();
  const made = await world.api('POST', '/endpoints', {
    network_id: network.PoolID,
    activate: true,
    activate_params: { ns_handle_path: netns.path },
  });
  expect(made.status).toBe(201);
  const peer = await world.netns();
  expect((await world.bee.endpoint(network.PoolID, peer.path)).status).toBe(201);
  await world.untilSandboxesKnown(2);
  await world.untilSound('all run');

  await world.kill();
  await world.endNamespaces();
  for (const container of containers) if (container) await world.removeNetns(container.sandbox);
  await world.removeNetns(netns);
  const started = performance.now();
  await world.start();
  expect(performance.now() - started).toBeLessThan(START_WITHIN_MS);

  await world.untilSound('it has restarted');
  expect(await endpointsOf(network.PoolID)).toMatchObject([{ active: false }]);
  // What is made from here on is as if nothing had been.
  const again = await docker.run(network);
  expect(again?.endpoint.Address).toBe('10.0.0.2/24');
  await world.untilSound('a container runs again');
});
