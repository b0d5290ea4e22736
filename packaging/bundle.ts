/**
 * The agent and its command line without node_modules, for whatever has no npm: the managed plugin, the packages.
 * What tsc compiled is what is bundled. Shared code lies in dist/overlay/, so that a URL relative to a module is the
 * same as unbundled: the kernel worker's file, package.json, etcd3's protocol files. `import()` stays lazy.
 */
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Metafile } from 'esbuild';

// This file runs compiled, in dist/packaging.
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const ENTRIES = ['daemon/main.js', 'cli/main.js', 'overlay/netlink/worker.js'];
const NATIVE = `@koromix/koffi-${process.platform}-${process.arch}`;

// CommonJS packages in an ES module: they want a require, and etcd3 the directory that it lies in.
const BANNER = [
  "import { createRequire as createBundleRequire } from 'node:module';",
  'const require = createBundleRequire(import.meta.url);',
  'const bundleDirname = import.meta.dirname;',
].join('\n');

/** Makes `directory` anew. The agent is `dist/daemon/main.js` in it, the command line `dist/cli/main.js`. */
export async function makeBundle(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: ENTRIES.map(entry => `dist/${entry}`),
    outbase: 'dist',
    outdir: join(directory, 'dist'),
    chunkNames: 'overlay/[name]-[hash]',
    bundle: true,
    splitting: true,
    metafile: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    // Names stay: a stack trace in an operator's log is worth more than a few kilobytes.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'none',
    banner: { js: BANNER },
    define: { __dirname: 'bundleDirname' },
    logLevel: 'warning',
  });
  await copyFiles(directory);
  await writeFile(join(directory, 'LICENSES'), await licencesOf(metafile));
}

/** What is read at run time and not imported. */
async function copyFiles(directory: string): Promise<void> {
  const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'));
  await writeFile(join(directory, 'package.json'), JSON.stringify({ name: 'sand', version, type: 'module' }));
  await cp(join(ROOT, 'node_modules/etcd3/proto'), join(directory, 'dist/proto'), { recursive: true });
  const native = join('node_modules', NATIVE);
  for (const part of ['package.json', 'index.js', `${process.platform}_${process.arch}`]) {
    await mkdir(join(directory, native), { recursive: true });
    await cp(join(ROOT, native, part), join(directory, native, part), { recursive: true });
  }
}

/** The licences of the packages that went in, which ask to be kept with them. */
async function licencesOf({ inputs }: Metafile): Promise<string> {
  const names = Object.keys(inputs).flatMap(
    path => /.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? [],
  );
  const texts = [...new Set([...names, `node_modules/${NATIVE}`])].sort().map(async path => {
    const { name, version, license } = JSON.parse(await readFile(join(ROOT, path, 'package.json'), 'utf8'));
    const files = ['LICENSE', 'LICENSE.md', 'LICENSE.txt', 'LICENCE', 'license', 'license.md'];
    const found = await Promise.all(
      files.map(file => readFile(join(ROOT, path, file), 'utf8').catch(() => '')),
    );
    return `${name} ${version}: ${license}\n\n${found.find(text => text !== '') ?? ''}\n`;
  });
  return (await Promise.all(texts)).join(`${'-'.repeat(80)}\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [directory = join(ROOT, '.build/bundle')] = process.argv.slice(2);
  await makeBundle(directory);
  process.stdout.write(`bundle: ${directory}\n`);
}
