/**
 * Root file system of the managed plugin, from what is installed on this machine: no image, no registry, no compiler.
 * The same programs and sources give the same bytes, names, modes and times.
 */
import { copyFile, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeBundle } from '../bundle.js';
import { output } from '../command.js';
import { level } from '../level.js';

// This file runs compiled, in dist/packaging/plugin.
const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const BUNDLE = 'usr/lib/sand';
/** Mounted over by Docker, as config.json says, or by runc. */
const MOUNT_POINTS = ['proc', 'sys', 'dev', 'run/docker/plugins', 'tmp', 'hostrun', 'tls', 'var/lib/sand'];

/** Defaults of the agent where it runs as a plugin. In a file, since an upgrade brings no new environment along. */
const SETTINGS = {
  'host-run': '/hostrun',
  'run-dir': '/hostrun/sand',
  'netns-path': '/run/sand/netns',
  'short-socket': '/hostrun/docker/plugins/sand.sock',
};

/** Makes `directory` anew, as `docker plugin create` wants it for the plugin `name`: config.json and rootfs/. */
export async function makePluginDirectory(directory: string, name: string): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  const rootfs = join(directory, 'rootfs');
  for (const path of [...MOUNT_POINTS, 'usr/bin', 'etc/sand']) {
    await mkdir(join(rootfs, path), { recursive: true });
  }
  await copyFile(join(ROOT, 'config.json'), join(directory, 'config.json'));
  await Promise.all([makeBundle(join(rootfs, BUNDLE)), copyPrograms(rootfs)]);
  await symlink(`../../${BUNDLE}/dist/cli/main.js`, join(rootfs, 'usr/bin/sand-agent-cli'));
  await writeFile(join(rootfs, 'etc/sand/config.json'), `${JSON.stringify(SETTINGS, undefined, 2)}\n`);
  // Docker refuses the same content under two names (20.10).
  await writeFile(join(rootfs, 'etc/sand/plugin'), `${name}\n`);
  await writeFile(join(rootfs, 'etc/nsswitch.conf'), 'hosts: files dns\n');
  await writeFile(join(rootfs, 'etc/passwd'), 'root:x:0:0:root:/:/sbin/nologin\n');
  await level(directory);
}

async function copyPrograms(rootfs: string): Promise<void> {
  const found = await output(['which', 'etcd', 'setpriv', 'env']);
  const programs = [process.execPath, ...found.trim().split('\n')];
  const libraries = await output(['ldd', ...programs]);
  for (const library of new Set(libraries.match(/\/\S+\.so\S*(?= \()/g))) {
    await mkdir(join(rootfs, dirname(library)), { recursive: true });
    await copyFile(library, join(rootfs, library));
  }
  for (const program of programs) {
    const name = program === process.execPath ? 'node' : program.slice(program.lastIndexOf('/') + 1);
    await output(['strip', '--strip-all', '-o', join(rootfs, 'usr/bin', name), program]);
  }
}
