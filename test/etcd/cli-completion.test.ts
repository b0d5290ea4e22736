/** The completion scripts in real shells, as a Tab presses them. */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { CLI, CliHost, cli } from '../support/cli-host.js';
import { ok, run } from '../support/command.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';

let etcd: EtcdCluster;
let ant: CliHost;
let directory: string;
let path: string;

const ID = '6ffc3990-b212-47f2-a5d1-2afe7526e548';
let endpoint: string;

beforeAll(async () => {
  etcd = await startEtcd();
  ant = await CliHost.open({ hosts: etcd.hosts, prefix: '/completion', name: 'ant' });
  await ant.out('network-create', '--id', ID, '--name', 'shop');
  await ant.out('network-create', '--name', 'a: b');
  endpoint = JSON.parse(await ant.out('endpoint-create', '-n', 'shop', '--passive', '--json')).id;
  directory = await mkdtemp(join(tmpdir(), 'sand-completion-'));
  path = `${directory}${delimiter}${process.env['PATH']}`;
  const program = join(directory, 'sand-agent-cli');
  await writeFile(program, `#!/bin/sh\nexec '${process.execPath}' '${CLI}' "$@"\n`);
  await chmod(program, 0o755);
  await writeFile(join(directory, 'bash'), await ant.out('completion', 'bash'));
});
afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
  await ant[Symbol.asyncDispose]();
  await etcd.stop();
});

const ALL = [
  ...[
    'version',
    'status',
    'network-create',
    'network-list',
    'network-show',
    'network-inspect',
    'network-delete',
  ],
  ...['network-connect', 'curl', 'endpoint-create', 'endpoint-list', 'endpoint-delete'],
  ...['host-list', 'host-drain', 'host-remove', 'verify', 'repair', 'gc', 'completion'],
];
const GLOBAL = [
  '--api-url',
  '--cert-file',
  '--key-file',
  '--ca-file',
  '--timeout',
  '--output',
  '--json',
  '--help',
];

/** What bash would offer behind the line, one a line. */
async function bash(line: string, apiUrl = ant.apiUrl): Promise<string[]> {
  const script = `
    source "$0"
    COMP_LINE=$1 COMP_POINT=\${#1} COMP_WORDS=($1) COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
    complete -p sand-agent-cli >/dev/null || exit 3
    _sand_agent_cli
    printf '%s\\n' "\${COMPREPLY[@]}"
  `;
  const env = { PATH: path, SAND_API_URL: apiUrl };
  const { status, stdout, stderr } = await run(
    ['bash', '--norc', '-c', script, join(directory, 'bash'), line],
    { env },
  );
  expect([status, stderr]).toEqual([0, '']);
  return stdout.split('\n').filter(Boolean);
}

describe('bash', () => {
  it('finds nothing wrong with the script', async () => {
    expect(await run(['bash', '-n', join(directory, 'bash')])).toEqual({ status: 0, stdout: '', stderr: '' });
  });

  it.each([
    ['', ALL],
    ['network-s', ['network-show']],
    ['--api-url http://x:1 endpoint-', ['endpoint-create', 'endpoint-list', 'endpoint-delete']],
    ['network ', ['create', 'list', 'show', 'inspect', 'delete', 'connect']],
    ['network-list --', GLOBAL],
    ['network-delete --', ['--network', '--recursive', '--force', ...GLOBAL]],
    ['endpoint-delete ', ['--endpoint']],
    ['network-list --output ', ['table', 'json', 'yaml']],
    ['network-list --output=j', ['json']],
    ['completion ', ['bash', 'zsh', 'fish']],
    ['network-show --network=sh', ['shop']],
    ['network-show -n ', ['shop', 'a:\\ b']],
    ['network-show -n 6ffc', [ID]],
    ['network inspect s', ['shop']],
    ['network inspect shop ', ['--network']],
    ['endpoint-list --hostname ', ['all', 'ant']],
    ['network-create --name ', []],
    ['nothing ', []],
  ])('sand-agent-cli %s: %j', async (line, offers) => {
    expect(await bash(`sand-agent-cli ${line}`)).toEqual(offers);
  });

  it('offers endpoints by id', async () => {
    expect(await bash('sand-agent-cli endpoint-delete -e ')).toEqual([endpoint]);
  });

  it('asks the agent that the line names', async () => {
    const nowhere = 'http://127.0.0.1:1';
    expect(await bash(`sand-agent-cli --api-url ${ant.apiUrl} network-show -n s`, nowhere)).toEqual(['shop']);
    expect(await bash('sand-agent-cli network-show -n s', nowhere)).toEqual([]);
  });

  it('offers files where a path is wanted', async () => {
    expect(await bash(`sand-agent-cli --ca-file ${directory}/b`)).toEqual([`${directory}/bash`]);
  });

  it('completes on a terminal when Tab is pressed', async () => {
    const rc = join(directory, 'rc');
    await writeFile(rc, `PS1='> '\nsource ${join(directory, 'bash')}\n`);
    const keys = 'sand-agent-cli network-sh\t-n sh\t--output js\t\nexit\n';
    const env = { PATH: path, SAND_API_URL: ant.apiUrl, TERM: 'dumb' };
    const screen = await ok(['script', '-qc', `bash --noprofile --rcfile ${rc} -i`, '/dev/null'], {
      env,
      input: keys,
    });
    expect(screen).toContain('network-show -n shop --output json');
    expect(screen).toContain(`"id": "${ID}"`);
  });
});

it.each(['zsh', 'fish'])('%s gets a script, without fault where the shell is there to say', async shell => {
  const file = join(directory, shell);
  const { status, stdout } = await cli(['completion', shell]);
  expect(status).toBe(0);
  expect(stdout).toContain(`${shell} completion of sand-agent-cli`);
  expect(stdout).toContain('__complete');
  await writeFile(file, stdout);
  const { status: found } = await run(['sh', '-c', `command -v ${shell}`]);
  if (found === 0) expect(await run([shell, '-n', file])).toMatchObject({ status: 0, stderr: '' });
});
