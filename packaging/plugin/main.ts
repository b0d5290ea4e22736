/** `make plugin` and `make plugin-push`: builds the managed plugin, gives it to Docker and says what it weighs. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { createGzip } from 'node:zlib';
import { output } from '../command.js';
import { makePluginDirectory } from './rootfs.js';

const DIRECTORY = fileURLToPath(new URL('../../../.build/plugin', import.meta.url));
const ETCD = 'rootfs/usr/bin/etcd';

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
const seconds = (since: number) => `${((performance.now() - since) / 1000).toFixed(1)} s`;
const say = (...lines: string[]) => void process.stdout.write(`${lines.join('\n')}\n`);

async function bytesIn(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const sizes = entries
    .filter(entry => entry.isFile())
    .map(async entry => (await stat(join(entry.parentPath, entry.name))).size);
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

/** A tar file of the plugin, or of parts of it, from its first to its last byte. */
function tar(...args: string[]): Readable {
  const owner = ['--owner=0', '--group=0', '--numeric-owner', '--sort=name'];
  return spawn('tar', ['-C', DIRECTORY, ...owner, '-c', ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
    .stdout;
}

/** As a registry keeps it. */
async function compressed(...args: string[]): Promise<number> {
  let bytes = 0;
  for await (const chunk of tar(...args).pipe(createGzip()) as AsyncIterable<Buffer>) bytes += chunk.length;
  return bytes;
}

async function contentHash(): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of tar('config.json', 'rootfs') as AsyncIterable<Buffer>) hash.update(chunk);
  return hash.digest('hex');
}

async function weigh(): Promise<void> {
  const whole = await bytesIn(DIRECTORY);
  const etcd = (await stat(join(DIRECTORY, ETCD))).size;
  say(
    `size: ${megabytes(whole - etcd)}, compressed ${megabytes(await compressed(`--exclude=${ETCD}`, 'rootfs'))}`,
    `etcd adds: ${megabytes(etcd)}, compressed ${megabytes(await compressed(ETCD))}`,
    `content: sha256:${await contentHash()}`,
  );
}

async function create(name: string): Promise<void> {
  const exists = await output(['docker', 'plugin', 'inspect', name]).then(
    () => true,
    error => {
      if (/not found|no such plugin/i.test(String(error))) return false;
      throw error;
    },
  );
  // Removing it unasked could take somebody's embedded etcd along.
  if (exists) {
    throw new Error(
      `${name} exists; give another name with PLUGIN=…, or remove it, and the etcd in it, with: docker plugin rm ${name}`,
    );
  }
  const began = performance.now();
  await output(['docker', 'plugin', 'create', name, DIRECTORY]);
  say(`${name} created in ${seconds(began)}`);
}

/** A plugin for the registry alone: it has never run, and holds nothing. */
async function push(name: string): Promise<void> {
  await create(name);
  try {
    const began = performance.now();
    await output(['docker', 'plugin', 'push', name]);
    say(`${name} pushed in ${seconds(began)}`);
  } finally {
    await output(['docker', 'plugin', 'rm', name]);
  }
}

const [command, name = 'sand-net:latest'] = process.argv.slice(2);
try {
  const began = performance.now();
  await makePluginDirectory(DIRECTORY, name);
  say(`built in ${seconds(began)}: ${DIRECTORY}`);
  await Promise.all([command === 'push' ? push(name) : create(name), weigh()]);
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}
