/** `make deb`: the agent and its command line as a Debian package that needs no Node.js of the system. */
import { copyFile, cp, mkdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { makeBundle } from '../bundle.js';
import { output } from '../command.js';
import { level } from '../level.js';
import { agentPage, cliPage } from './man-pages.js';

// This file runs compiled, in dist/packaging/deb.
const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const LIBRARY = 'usr/lib/sand';
const PROGRAMS = { 'sand-agent': 'dist/daemon/main.js', 'sand-agent-cli': 'dist/cli/main.js' };

/** Makes the package in `directory` and gives its file; `compression` as dpkg-deb takes it. */
export async function makePackage(directory: string, compression = ['-Zxz']): Promise<string> {
  const tree = join(directory, 'tree');
  await rm(tree, { recursive: true, force: true });
  const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'));
  const architecture = (await output(['dpkg', '--print-architecture'])).trim();
  await makeBundle(join(tree, LIBRARY));
  await addPrograms(tree);
  await addService(tree);
  await addPages(tree, version);
  await addControl(tree, { version, architecture });
  await level(tree);
  const file = join(directory, `sand_${version}_${architecture}.deb`);
  await output([
    'env',
    'SOURCE_DATE_EPOCH=0',
    'dpkg-deb',
    '--build',
    '--root-owner-group',
    ...compression,
    tree,
    file,
  ]);
  await rm(tree, { recursive: true });
  return file;
}

/** Its own Node.js: Debian's is older than what the agent needs. */
async function addPrograms(tree: string): Promise<void> {
  const node = join(tree, LIBRARY, 'bin/node');
  await mkdir(dirname(node), { recursive: true });
  await output(['strip', '--strip-all', '-o', node, process.execPath]);
  await mkdir(join(tree, 'usr/bin'), { recursive: true });
  for (const [name, main] of Object.entries(PROGRAMS)) {
    const script = `#!/bin/sh\nexec /${LIBRARY}/bin/node /${LIBRARY}/${main} "$@"\n`;
    await writeFile(join(tree, 'usr/bin', name), script);
  }
}

async function addService(tree: string): Promise<void> {
  const add = async (name: string, to: string) => {
    await mkdir(dirname(join(tree, to)), { recursive: true });
    await copyFile(join(ROOT, 'packaging/systemd', name), join(tree, to));
  };
  await add('sand.service', 'usr/lib/systemd/system/sand.service');
  await add('sand.default', 'etc/default/sand');
}

async function addPages(tree: string, version: string): Promise<void> {
  const pages = { 'man8/sand-agent.8': agentPage(version), 'man1/sand-agent-cli.1': cliPage(version) };
  for (const [name, text] of Object.entries(pages)) {
    const file = join(tree, 'usr/share/man', `${name}.gz`);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, gzipSync(text, { level: 9 }));
  }
  const docs = join(tree, 'usr/share/doc/sand');
  await mkdir(docs, { recursive: true });
  await copyFile(join(ROOT, 'LICENSE'), join(docs, 'copyright'));
  await symlink(`../../../lib/sand/LICENSES`, join(docs, 'LICENSES'));
}

async function addControl(
  tree: string,
  { version, architecture }: Record<'version' | 'architecture', string>,
): Promise<void> {
  const control = join(tree, 'DEBIAN');
  await cp(join(ROOT, 'packaging/deb/control'), control, { recursive: true });
  const kilobytes = (await output(['du', '-sk', '--apparent-size', tree])).split('\t')[0];
  const template = await readFile(join(control, 'control'), 'utf8');
  const filled = template
    .replace('@VERSION@', version)
    .replace('@ARCHITECTURE@', architecture)
    .replace('@SIZE@', kilobytes ?? '0');
  await writeFile(join(control, 'control'), filled);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const file = await makePackage(join(ROOT, '.build'));
  const { size } = await stat(file);
  process.stdout.write(`${file}: ${(size / 1e6).toFixed(1)} MB\ninstall it: apt install ${file}\n`);
}
