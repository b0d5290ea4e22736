import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { DockerHost } from '../support/docker-host.js';
import { createNamed, runSleeper, SandLab } from '../support/sand-lab.js';
import { until } from '../support/until.js';

let sand: SandLab;
let host: DockerHost;

beforeAll(async () => {
  sand = await SandLab.start({ hosts: 1 });
  host = sand.host(1);
});
afterAll(() => sand?.stop());

it('Docker networks that went while the agent was away are unbound after its start; not those with living endpoints', async () => {
  for (const name of ['shop', 'kept', 'alive']) await createNamed(host, name);
  await runSleeper(host, 'living', '--network', 'alive');
  await sand.agent(1).stop();
  await host.stopDockerd('SIGKILL');
  // Docker forgets all of its networks; those it makes again are new ones.
  await rm(host.path(join(host.root, 'docker/network/files/local-kv.db')));
  await host.startDockerd();
  const agent = await sand.startAgent(1);
  await createNamed(host, 'kept');
  const names = async () => (await sand.networks()).map(({ name }) => name).sort();
  expect(await names()).toEqual(['alive', 'kept', 'shop']);
  await until(async () => (await names()).join() === 'alive,kept', {
    what: 'shop is gone',
    timeoutMs: 25_000,
  });
  expect(await sand.etcd.keys('/sc-net/docker-networks/')).toHaveLength(2);
  expect(await sand.etcd.keys('/sc-net/network.bindings/')).toHaveLength(2);
  expect(await agent.log()).toContain('whose containers have interfaces; left alone');
}, 90_000);
