import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { DockerHost } from '../support/docker-host.js';
import { createNamed, SandLab } from '../support/sand-lab.js';
import { until } from '../support/until.js';

let sand: SandLab;
let host: DockerHost;

beforeAll(async () => {
  sand = await SandLab.start({ hosts: 1 });
  host = sand.host(1);
});
afterAll(() => sand?.stop());

it('Docker networks that went while the agent was away are unbound after its start, and no others', async () => {
  for (const name of ['shop', 'kept']) await createNamed(host, name);
  await sand.agent(1).stop();
  await host.stopDockerd();
  // Docker forgets all of its networks; those it makes again are new ones.
  await rm(host.path(join(host.root, 'docker/network/files/local-kv.db')));
  await host.startDockerd();
  await sand.startAgent(1);
  await createNamed(host, 'kept');
  const names = async () => (await sand.networks()).map(({ name }) => name).sort();
  expect(await names()).toEqual(['kept', 'shop']);
  await until(async () => (await names()).join() === 'kept', { what: 'shop is gone', timeoutMs: 25_000 });
  expect(await sand.etcd.keys('/sc-net/docker-networks/')).toHaveLength(1);
  expect(await sand.etcd.keys('/sc-net/network.bindings/')).toHaveLength(1);
}, 60_000);
