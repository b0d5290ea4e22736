import { findHostRunAt, pathHere } from '../../overlay/host-paths.js';

afterEach(() => findHostRunAt(undefined));

it.each(['/run/netns/a', '/var/run/docker/netns/b', '/proc/7/ns/net', '/tmp/c'])(
  'pathHere() leaves %s as it is where the file system is the host’s',
  path => expect(pathHere(path)).toBe(path),
);

it.each([
  ['/run/netns/a', '/hostrun/netns/a'],
  ['/var/run/docker/netns/b', '/hostrun/docker/netns/b'],
  ['/run//sand/./netns/../c', '/hostrun/sand/c'],
  ['/run/', undefined],
  ['/run', undefined],
  ['/running/a', undefined],
  ['/run/../etc/passwd', undefined],
  ['/run/netns/../../proc/1/ns/net', undefined],
  ['/proc/1/ns/net', undefined],
  ['/hostrun/netns/a', undefined],
  ['/tmp/c', undefined],
])('pathHere() of %s is %s with the host’s /run at /hostrun', (path, here) => {
  findHostRunAt('/hostrun');
  expect(pathHere(path)).toBe(here);
});
