import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DockerHost } from '../support/docker-host.js';
import { addressIn, ping, SandLab } from '../support/sand-lab.js';

/** The example of the documentation, as it stands there. */
const EXAMPLE = fileURLToPath(new URL('../../../docs/compose/docker-compose.yml', import.meta.url));

let sand: SandLab;
let one: DockerHost;
let two: DockerHost;

beforeAll(async () => {
  sand = await SandLab.start();
  [one, two] = [sand.host(1), sand.host(2)];
});
afterAll(() => sand?.stop());

/** Each host has the project in a directory of its own name. */
function compose(host: DockerHost, ...args: readonly string[]): Promise<string> {
  const directory = join(host.root, 'shop');
  mkdirSync(directory, { recursive: true });
  copyFileSync(EXAMPLE, join(directory, 'docker-compose.yml'));
  return host.exec(
    [
      'docker-compose',
      '--project-directory',
      directory,
      '--file',
      join(directory, 'docker-compose.yml'),
      ...args,
    ],
    {
      env: { DOCKER_HOST: 'unix:///run/docker.sock' },
    },
  );
}

describe('the Compose example', () => {
  it('connects a service of one host with a service of another, and leaves nothing behind', async () => {
    await compose(one, 'up', '--detach', 'web');
    await compose(two, 'up', '--detach', 'db');
    const [web, db] = ['shop_web_1', 'shop_db_1'];
    expect(await addressIn(two, db, 'shop_shop')).toBe('10.50.0.20');
    await ping(one, web, '10.50.0.20', 3);
    const address = await addressIn(one, web, 'shop_shop');
    const page = await two.docker('exec', db, 'wget', '-q', '-O', '-', `http://${address}/passwd`);
    expect(page).toContain('root');
    expect((await sand.networks()).map(({ name }) => name)).toEqual(['shop']);

    await compose(one, 'restart', '--timeout', '0', 'web');
    await ping(one, web, '10.50.0.20');

    await compose(one, 'down', '--timeout', '0');
    await compose(two, 'down', '--timeout', '0');
    expect(await sand.etcd.keys('/sc-net/')).toEqual([]);
  });
});
