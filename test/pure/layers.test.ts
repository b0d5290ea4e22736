/** The import rules of the project, read from the TypeScript sources. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';

// This file runs compiled, in dist/test/pure.
const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

const LINES_MAX = 300;

/** Which folders a folder may import, itself aside. Of ipam the edges use ranges, which are arithmetic. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  daemon: ['plugin', 'api', 'cli', 'listen', 'engine', 'ipam', 'overlay', 'store', 'model'],
  plugin: ['listen', 'engine', 'ipam', 'model'],
  api: ['listen', 'engine', 'ipam', 'model'],
  cli: ['model'],
  listen: ['model'],
  engine: ['ipam', 'overlay', 'store', 'model'],
  ipam: ['model'],
  overlay: ['model'],
  store: ['model'],
  model: [],
};
/** What single files may import besides. */
const FILES_MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  'plugin/bindings.ts': ['store'],
  ...Object.fromEntries(
    ['addresses', 'changes', 'group', 'plan', 'pool-queue', 'pool-view', 'pool-writer'].map(name => [
      `ipam/${name}.ts`,
      ['store'],
    ]),
  ),
};
/** What a folder may import with `import type` only. */
const TYPES_ONLY: Readonly<Record<string, readonly string[]>> = { cli: ['api'] };

/** The file or the folder (with a slash) that alone imports the package. */
const PACKAGE_HOME: Readonly<Record<string, string>> = {
  winston: 'daemon/log.ts',
  'ip-num': 'ipam/range.ts',
  koffi: 'overlay/netlink/socket.ts',
  etcd3: 'store/',
  cockatiel: 'store/',
};

interface Import {
  /** As written: `../model/errors.js` or `node:fs`. */
  readonly specifier: string;
  readonly typeOnly: boolean;
  /** A worker's file is started, not imported: it counts for layers and not for cycles. */
  readonly worker: boolean;
}

const STATIC =
  /^[ \t]*(?:import|export)\s+(?<typeOnly>type\s+(?!from\b))?[\w$*{}\s,]*?\s*from\s*(['"])(?<specifier>.+?)\2/gm;
const SIDE_EFFECT = /^[ \t]*import\s*(['"])(?<specifier>.+?)\1/gm;
const DYNAMIC = /\b(?:import|require)\s*\(\s*(['"])(?<specifier>.+?)\1/g;
const WORKER = /\bnew URL\(\s*(['"])(?<specifier>\.{1,2}\/[^'"]+\.js)\1/g;

function importsOf(source: string): Import[] {
  const found = (pattern: RegExp, worker = false) =>
    [...source.matchAll(pattern)].map(({ groups }) => ({
      specifier: groups?.['specifier'] ?? '',
      typeOnly: groups?.['typeOnly'] !== undefined,
      worker,
    }));
  return [...found(STATIC), ...found(SIDE_EFFECT), ...found(DYNAMIC), ...found(WORKER, true)];
}

/** `engine/a.ts` and `../model/b.js` → `model/b.ts`; undefined for a package. */
const targetOf = (file: string, specifier: string) =>
  specifier.startsWith('.') ? posix.join(posix.dirname(file), specifier).replace(/\.js$/, '.ts') : undefined;

const folderOf = (file: string) => file.slice(0, file.indexOf('/'));
const packageOf = (specifier: string) => specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');

function layerViolations(file: string, imports: readonly Import[]): string[] {
  const folder = folderOf(file);
  const always = [folder, ...(MAY_IMPORT[folder] ?? []), ...(FILES_MAY_IMPORT[file] ?? [])];
  return imports.flatMap(({ specifier, typeOnly }) => {
    const target = targetOf(file, specifier);
    if (target === undefined) return [];
    const allowed = typeOnly ? [...always, ...(TYPES_ONLY[folder] ?? [])] : always;
    if (allowed.includes(folderOf(target))) return [];
    return [`${file} imports ${target}; it may import ${allowed.join(', ')}`];
  });
}

const packageViolations = (file: string, name: string, imports: readonly Import[]) => {
  const home = PACKAGE_HOME[name] ?? '';
  if (file === home || (home.endsWith('/') && file.startsWith(home))) return [];
  return imports
    .filter(({ specifier }) => packageOf(specifier) === name)
    .map(({ specifier }) => `${file} imports ${specifier}; only ${home} may`);
};

/** Each cycle once, as `a.ts → b.ts → a.ts`. */
function cyclesIn(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const cycles: string[] = [];
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string) => {
    const at = path.indexOf(file);
    if (at >= 0) cycles.push([...path.slice(at), file].join(' → '));
    if (at >= 0 || done.has(file)) return;
    path.push(file);
    for (const target of graph.get(file) ?? []) visit(target);
    path.pop();
    done.add(file);
  };
  for (const file of graph.keys()) visit(file);
  return cycles;
}

function sourcesIn(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ts') && !name.endsWith('.d.ts'))
    .map(name => `${folder}/${name}`);
}

const folders = Object.keys(MAY_IMPORT);
const textOf = (file: string) => readFileSync(join(ROOT, file), 'utf8');
const sources = new Map(folders.flatMap(sourcesIn).map(file => [file, importsOf(textOf(file))] as const));
const eachSource = (check: (file: string, imports: readonly Import[]) => string[]) =>
  [...sources].flatMap(([file, imports]) => check(file, imports));

describe('the checks themselves', () => {
  it('read this project', () => {
    expect(JSON.parse(textOf('package.json'))).toMatchObject({ name: 'sand' });
    expect([...sources.keys()]).toEqual(expect.arrayContaining(['model/scalars.ts', 'ipam/range.ts']));
    expect(sources.get('ipam/range.ts')).toContainEqual({
      specifier: 'ip-num',
      typeOnly: false,
      worker: false,
    });
  });

  it('see every way to import', () => {
    const text = [
      "import a from 'a';",
      "import type { B } from 'b';",
      "import {\n  c,\n  type C,\n} from 'c';",
      "import * as d from 'd';",
      "import e, { type E } from 'e';",
      "export * from 'f';",
      "export type { G } from 'g';",
      "import 'h';",
      "const { i } = await import('i');",
      "const worker = new Worker(new URL('./j.js', import.meta.url));",
      "// import k from 'k';",
      ' * import l from "l";',
      'const from = "m";',
      "import type from 'n';",
    ].join('\n');
    const seen = importsOf(text);
    expect(seen.map(({ specifier }) => specifier).sort()).toEqual([
      './j.js',
      ...['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'n'],
    ]);
    expect(seen.filter(({ typeOnly }) => typeOnly).map(({ specifier }) => specifier)).toEqual(['b', 'g']);
  });

  const direct = (specifier: string, typeOnly = false) => [{ specifier, typeOnly, worker: false }];

  it.each([
    ['engine/a.ts', direct('../plugin/b.js'), 1],
    ['engine/a.ts', direct('../store/b.js'), 0],
    ['ipam/pool.ts', direct('../store/b.js', true), 1],
    ['ipam/group.ts', direct('../store/b.js'), 0],
    ['ipam/vni.ts', direct('../store/b.js'), 1],
    ['overlay/netlink/a.ts', direct('../../store/b.js'), 1],
    ['overlay/netlink/a.ts', direct('../endpoint.js'), 0],
    ['cli/a.ts', direct('../api/b.js'), 1],
    ['cli/a.ts', direct('../api/b.js', true), 0],
    ['model/a.ts', direct('../package.json'), 1],
    ['model/a.ts', direct('zod'), 0],
  ])('layers: %s importing %j is %d violation(s)', (file, imports, count) => {
    expect(layerViolations(file, imports)).toHaveLength(count);
  });

  it.each([
    ['api/a.ts', 'winston', direct('winston/lib/x.js'), 1],
    ['daemon/log.ts', 'winston', direct('winston'), 0],
    ['store/client.ts', 'etcd3', direct('etcd3', true), 0],
    ['engine/a.ts', 'etcd3', direct('etcd3', true), 1],
  ])('packages: %s with %s', (file, name, imports, count) => {
    expect(packageViolations(file, name, imports)).toHaveLength(count);
  });

  it('find a cycle and none in a diamond', () => {
    const diamond = { a: ['b', 'c'], b: ['d'], c: ['d'] };
    expect(cyclesIn(new Map(Object.entries(diamond)))).toEqual([]);
    expect(cyclesIn(new Map(Object.entries({ ...diamond, d: ['b'] })))).toEqual(['b → d → b']);
  });
});

describe('the sources', () => {
  it.each(folders)('%s/ imports only what its layer may', folder => {
    const inFolder = eachSource((file, imports) =>
      folderOf(file) === folder ? layerViolations(file, imports) : [],
    );
    expect(inFolder).toEqual([]);
  });

  it('have no import cycle', () => {
    const graph = new Map(
      [...sources].map(([file, imports]) => [
        file,
        imports.flatMap(({ specifier, worker }) => (worker ? [] : (targetOf(file, specifier) ?? []))),
      ]),
    );
    expect(cyclesIn(graph)).toEqual([]);
  });

  it.each(Object.keys(PACKAGE_HOME))('import %s in its one place only', name => {
    expect(eachSource((file, imports) => packageViolations(file, name, imports))).toEqual([]);
  });

  it(`have at most ${LINES_MAX} lines`, () => {
    const files = [...sources.keys(), ...sourcesIn('bench'), ...sourcesIn('packaging')];
    const long = files
      .map(file => ({ file, lines: textOf(file).trimEnd().split('\n').length }))
      .filter(({ lines }) => lines > LINES_MAX);
    expect(long.map(({ file, lines }) => `${file} has ${lines} lines`)).toEqual([]);
  });
});
