/** What an agent can leave behind on a host and in etcd: looked at before and after, and compared. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { DockerHost } from './docker-host.js';
import type { EtcdCluster } from './etcd.js';
import { until } from './until.js';

/** Sorted texts; two snapshots of a host on which nothing is left are equal. */
export interface Snapshot {
  /** Interfaces in the host's own namespace. */
  readonly links: readonly string[];
  /** Files of network namespaces, whether something is mounted on them or not. */
  readonly namespaces: readonly string[];
  /** Mount points of network namespaces. */
  readonly mounts: readonly string[];
  /** etcd keys under the prefix; empty where no etcd was given. */
  readonly keys: readonly string[];
}

export interface SnapshotOptions {
  readonly etcd?: EtcdCluster;
  /** Default: every key. */
  readonly prefix?: string;
  /** Directories of namespace files, as the host sees them. */
  readonly directories?: readonly string[];
}

const DIRECTORIES = ['/run/netns', '/run/sand', '/run/sand/netns']; // Docker removes files of its own up to 60 s later
const DOCKERS_OWN = '/run/docker/netns/default'; // made with the first container, kept for good

export async function snapshot(host: DockerHost, options: SnapshotOptions = {}): Promise<Snapshot> {
  const { etcd, prefix = '', directories = DIRECTORIES } = options;
  const [links, files, mounts, keys] = await Promise.all([
    host.json<readonly { readonly ifname: string }[]>(['ip', '-j', 'link', 'show']),
    Promise.all(directories.map(path => filesOf(host, path))),
    host.namespaces.mounts(),
    etcd?.keys(prefix) ?? [],
  ]);
  const nsfs = mounts.filter(({ type }) => type === 'nsfs').map(({ path }) => path);
  // A mount below a shared mount is there twice: `ip netns add` binds /run/netns to itself
  const foreign = (paths: readonly string[]) =>
    [...new Set(paths)].filter(path => path !== DOCKERS_OWN).sort();
  return {
    links: links.map(({ ifname }) => ifname).sort(),
    namespaces: foreign(files.flat()),
    mounts: foreign(nsfs),
    keys: [...keys].sort(),
  };
}

/** What there is more or less after than before, a line each: `links: + vx4242`. Empty when nothing is. */
export function differences(before: Snapshot, after: Snapshot): string[] {
  const kinds = ['links', 'namespaces', 'mounts', 'keys'] as const;
  return kinds.flatMap(kind => {
    const more = after[kind].filter(each => !before[kind].includes(each)).map(each => `${kind}: + ${each}`);
    const less = before[kind].filter(each => !after[kind].includes(each)).map(each => `${kind}: - ${each}`);
    return [...more, ...less];
  });
}

/** Waits until the host looks as before: the kernel removes links after the answer. @throws {Error} listing what differs. */
export async function untilNothingLeft(
  host: DockerHost,
  before: Snapshot,
  { timeoutMs = 5_000, ...options }: SnapshotOptions & { readonly timeoutMs?: number } = {},
): Promise<void> {
  const clean = async () => {
    const found = differences(before, await snapshot(host, options));
    if (found.length > 0) throw new Error(found.join(', '));
    return true;
  };
  await until(clean, { timeoutMs, what: `${host.name} is as it was`, everyMs: 50 });
}

async function filesOf(host: DockerHost, directory: string): Promise<string[]> {
  const entries = await readdir(host.path(directory), { withFileTypes: true }).catch(() => []);
  return entries.filter(entry => entry.isFile()).map(entry => join(directory, entry.name));
}
