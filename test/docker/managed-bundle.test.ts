/** The bundle as it is shipped: away from node_modules, on a Docker host. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeBundle } from '../../packaging/bundle.js';
import { AgentProcess } from '../support/agent-process.js';
import { ok } from '../support/command.js';
import { DockerLab } from '../support/docker-lab.js';
import { ping, runSleeper } from '../support/sand-lab.js';

const SHOP = ['--driver', 'sand', '--ipam-driver', 'null', '--opt', 'sand-name=shop'];

let bundle: string;
beforeAll(async () => {
  bundle = await mkdtemp(join(tmpdir(), 'sandbundle-'));
  await makeBundle(bundle);
});
afterAll(() => rm(bundle, { recursive: true, force: true }));

const main = () => join(bundle, 'dist/daemon/main.js');
const cli = (...args: string[]) => [process.execPath, join(bundle, 'dist/cli/main.js'), ...args];

it('the agent needs nothing else: an etcd with certificates, the kernel, Docker and the API', async () => {
  await using lab = await DockerLab.start({ hosts: 1 });
  const host = lab.host(1);
  const env = { SAND_ETCD_LISTEN: host.address, SAND_STATE_DIR: join(host.root, 'state') };
  await using agent = await AgentProcess.start(host, { main: main(), env });
  await host.docker('network', 'create', ...SHOP, 'shop');
  await runSleeper(host, 'one', '--network', 'shop');
  await runSleeper(host, 'two', '--network', 'shop');
  await ping(host, 'one', 'two');
  expect(await host.exec(cli('network-list'))).toContain('] shop (overlay');
  expect(await agent.log()).not.toMatch(/WARN|ERROR/);
});

it('names its version, the licences of what went in, and the same content twice', async () => {
  const { version } = JSON.parse(await ok(['cat', 'package.json']));
  expect(await ok([process.execPath, main(), '--version'])).toBe(`v${version}\n`);
  expect(await ok(['cat', join(bundle, 'LICENSES')])).toMatch(/^express 5.*: MIT$/m);
  const again = await mkdtemp(join(tmpdir(), 'sandbundle-'));
  try {
    await makeBundle(again);
    expect(await ok(['diff', '--recursive', bundle, again])).toBe('');
  } finally {
    await rm(again, { recursive: true });
  }
});
