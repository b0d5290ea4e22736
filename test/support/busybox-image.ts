import { copyFile, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ok } from './command.js';

/** Writes a root file system of the machine's static busybox as a tar file, for `docker import`. About 2 MB. */
export async function makeBusyboxTar(tarFile: string): Promise<void> {
  const root = `${tarFile}.root`;
  const directories = ['bin', 'etc', 'proc', 'sys', 'dev', 'tmp', 'root', 'var', 'run'];
  await Promise.all(directories.map(each => mkdir(join(root, each), { recursive: true })));
  await copyFile('/bin/busybox', join(root, 'bin/busybox'));
  const applets = (await ok(['/bin/busybox', '--list'])).trim().split('\n');
  const links = applets.filter(applet => applet !== 'busybox');
  await Promise.all(links.map(applet => symlink('busybox', join(root, 'bin', applet))));
  await writeFile(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
  await writeFile(join(root, 'etc/group'), 'root:x:0:\n');
  await ok(['tar', '--directory', root, '--create', '--file', tarFile, '.']);
  await rm(root, { recursive: true });
}
