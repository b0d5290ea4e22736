/**
 * Removes what a lab or a test etcd leaves on the machine, from names alone: so the same code serves an orderly
 * end and the guardian, which cleans up after a test process that was killed.
 */
import { readdir, readFile, readlink, rm, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ok } from './command.js';
import { until } from './until.js';

/** What somebody made and will have to remove. All names must be unique on the machine. */
export interface Claim {
  /** Names below `/run/netns`: every process inside them belongs to the claim. */
  readonly namespaces?: readonly string[];
  /** Names of cgroups at the root of each hierarchy: likewise. */
  readonly cgroups?: readonly string[];
  /** Single processes; the start time tells a process from a later one with the same id. */
  readonly processes?: readonly { readonly pid: number; readonly startTicks: string }[];
  readonly directories?: readonly string[];
}

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly startTicks: string;
  /** `dev:inode` of its network namespace, empty when it cannot be read. */
  readonly net: string;
  readonly mount: string;
  readonly cgroups: string;
}

const CGROUP_ROOT = '/sys/fs/cgroup';
export const namespacePath = (name: string) => `/run/netns/${name}`;

/** Kills the claim's processes and removes its namespaces, cgroups and directories. Goes on past errors and reports all. */
export async function sweep(claim: Claim): Promise<void> {
  const errors: unknown[] = [];
  const attempt = async (step: () => Promise<unknown>) => {
    try {
      await step();
    } catch (error) {
      errors.push(error);
    }
  };
  const containerCgroups = new Set<string>();
  await attempt(() => killAll(claim, containerCgroups));
  for (const name of claim.namespaces ?? []) await attempt(() => removeNamespace(name));
  for (const name of [...(claim.cgroups ?? []), ...containerCgroups]) await attempt(() => removeCgroup(name));
  for (const path of claim.directories ?? []) {
    await attempt(() => unmountBelow(path));
    // A dying mount namespace may keep a directory busy for a moment
    await attempt(() => rm(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 }));
  }
  if (errors.length > 0) {
    const texts = errors.map(error => (error instanceof Error ? error.message : String(error)));
    throw new AggregateError(errors, `Something was left behind: ${texts.join('; ')}`);
  }
}

/** The ids of the processes that belong to a claim, their descendants included. */
export async function processesOf(claim: Claim): Promise<number[]> {
  return (await findProcesses(claim)).map(each => each.pid);
}

async function findProcesses(claim: Claim): Promise<Process[]> {
  const [all, own] = await Promise.all([readProcesses(), readProcess(process.pid)]);
  const nets = new Set(
    await Promise.all((claim.namespaces ?? []).map(name => identity(namespacePath(name)))),
  );
  nets.delete('');
  if (own) nets.delete(own.net);
  const starts = new Map(claim.processes?.map(({ pid, startTicks }) => [pid, startTicks]));
  const names = claim.cgroups ?? [];
  const inCgroup = (text: string) => names.some(name => new RegExp(`:/${name}(/|$)`, 'm').test(text));
  const belongs = (each: Process) =>
    nets.has(each.net) || starts.get(each.pid) === each.startTicks || inCgroup(each.cgroups);
  const found = new Set(all.filter(belongs));
  const mounts = new Set(
    [...found].map(each => each.mount).filter(mount => mount !== '' && mount !== own?.mount),
  );
  for (let size = -1; size !== found.size; ) {
    size = found.size;
    const pids = new Set([...found].map(each => each.pid));
    for (const each of all) if (pids.has(each.parent) || mounts.has(each.mount)) found.add(each);
  }
  return [...found].filter(each => each.pid !== process.pid);
}

/** Start time of a process in clock ticks since boot: with the id it names a process for good. */
export const startTicksOf = async (pid: number) => (await readProcess(pid))?.startTicks;

/** Kills until none is left. Notes the cgroups that were made for one container: a managed plugin's lie outside the claim's. */
async function killAll(claim: Claim, containerCgroups: Set<string>): Promise<void> {
  const goneAll = async () => {
    const found = await findProcesses(claim);
    for (const { pid } of found) kill(pid);
    for (const { cgroups } of found) {
      for (const [, path = ''] of cgroups.matchAll(/:\/(.*\/?[0-9a-f]{64})$/gm)) containerCgroups.add(path);
    }
    return found.length === 0;
  };
  await until(goneAll, { timeoutMs: 10_000, what: `no process of ${JSON.stringify(claim)}`, everyMs: 10 });
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

async function readProcesses(): Promise<Process[]> {
  const names = (await readdir('/proc')).filter(name => /^\d+$/.test(name));
  const all = await Promise.all(names.map(name => readProcess(Number(name))));
  return all.filter(each => each !== undefined);
}

/** Undefined for a zombie, or a process that has ended meanwhile. */
async function readProcess(pid: number): Promise<Process | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' '); // proc(5): field 3 follows the name
    const [state, parent] = fields;
    if (state === 'Z' || state === 'X') return undefined;
    const [net, mount, cgroups] = await Promise.all([
      identity(`/proc/${pid}/ns/net`),
      readlink(`/proc/${pid}/ns/mnt`).catch(() => ''), // a kernel thread or one that just ended has none
      readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => ''),
    ]);
    return { pid, parent: Number(parent), startTicks: fields[19] ?? '', net, mount, cgroups };
  } catch {
    return undefined;
  }
}

const identity = (path: string) =>
  stat(path).then(
    found => `${found.dev}:${found.ino}`,
    () => '',
  );

async function removeNamespace(name: string): Promise<void> {
  if ((await identity(namespacePath(name))) !== '') await ok(['ip', 'netns', 'delete', name]);
}

/** Namespace files of an agent that was killed; several mounts may be stacked on one. */
async function unmountBelow(directory: string): Promise<void> {
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').map(line => line.split(' ')[4]);
  for (const path of mounts.reverse()) {
    if (path?.startsWith(`${directory}/`)) await ok(['umount', '--lazy', path]);
  }
}

/** Processes killed with their shim leave their cgroups behind. One root for cgroup v2, one per hierarchy for v1. */
async function removeCgroup(name: string): Promise<void> {
  const hierarchies = await readdir(CGROUP_ROOT).catch(() => []);
  for (const root of [CGROUP_ROOT, ...hierarchies.map(each => join(CGROUP_ROOT, each))]) {
    await removeCgroupTree(join(root, name));
  }
}

async function removeCgroupTree(path: string): Promise<void> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => undefined);
  if (!entries) return;
  for (const entry of entries) if (entry.isDirectory()) await removeCgroupTree(join(path, entry.name));
  const removed = () => rmdir(path).then(() => true);
  await until(removed, { timeoutMs: 2_000, what: `cgroup ${path} is removed` });
}
