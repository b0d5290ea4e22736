import { CLI, CliHost, cli, VERSION } from '../support/cli-host.js';
import { ok, run } from '../support/command.js';
import { TEST_DATA_PLANE } from '../support/data-plane.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';

let etcd: EtcdCluster;
let ant: CliHost;
let tests = 0;

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());

beforeEach(async () => {
  ant = await CliHost.open({ hosts: etcd.hosts, prefix: `/cli${++tests}`, name: 'ant' });
});
afterEach(() => ant[Symbol.asyncDispose]());

const ID = '6ffc3990-b212-47f2-a5d1-2afe7526e548';
const shop = (...flags: readonly string[]) =>
  ant.out('network-create', '--id', ID, '--name', 'shop', '--ip-range', '10.1.0.0/24', ...flags);

describe('lines that scripts parse', () => {
  it('of the networks, from none to none', async () => {
    expect(await ant.out('network-list')).toBe('No existing network\n');
    expect(await shop()).toBe(
      `New network created:\n* id=${ID} name=shop type=overlay ip-range=10.1.0.0/24, vni=1\n`,
    );
    expect(await ant.out('network-list')).toBe(`List of networks:\n* [${ID}] shop (overlay VNI: 1)\n`);
    expect(await ant.out('network-show', '-n', 'shop')).toBe(`[${ID}] shop (overlay VNI: 1)\n`);
    expect(await ant.out('network-show', '--network', ID)).toBe(`[${ID}] shop (overlay VNI: 1)\n`);
    expect(await ant.out('endpoint-list')).toBe('List of endpoints:\n');
    expect(await ant.out('network-delete', '-n', 'shop')).toBe(`Network ${ID} has been deleted\n`);
    expect(await ant.out('network-list')).toBe('No existing network\n');
  });

  it('of a network of which nothing was said', async () => {
    const made = await ant.out('network-create');
    const [, id] = /id=(\S+)/.exec(made) ?? [];
    expect(made).toBe(
      `New network created:\n* id=${id} name=net-sc-${id} type=overlay ip-range=10.0.0.0/24, vni=1\n`,
    );
  });

  it('of the versions', async () => {
    expect(await ant.out('version')).toBe(`Client version: ${VERSION}\nServer version: ${VERSION}\n`);
  });
});

describe('network-create', () => {
  it('takes gateway, MTU, data plane and VNI', async () => {
    await shop('--gateway', '10.1.0.254', '--mtu', '1400', '--vni', '4242', '--dataplane', 'macvlan');
    expect(JSON.parse(await ant.out('network-show', '-n', 'shop', '--json'))).toMatchObject({
      id: ID,
      gateway: '10.1.0.254/24',
      mtu: 1400,
      dataplane: 'macvlan',
      vxlan_vni: 4242,
    });
    expect(await ant.out('network-inspect', 'shop')).toMatch(/MTU 1400, macvlan\n/);
  });

  it('takes the empty string for what a script leaves open', async () => {
    expect(await ant.out('network-create', '--name', 'red', '--ip-range', '', '--gateway=')).toContain(
      'name=red type=overlay ip-range=10.0.0.0/24',
    );
  });
});

describe('--output', () => {
  const HEAD = 'ID                                    NAME  VNI  RANGE        GATEWAY      MTU\n';
  const ROW = `${ID}  shop  1    10.1.0.0/24  10.1.0.1/24  1400\n`;
  const network = async () => (await (await apiGet('/networks')).networks)[0];
  const apiGet = async (path: string) =>
    JSON.parse(await ok(['curl', '-s', '--unix-socket', ant.socket, `http://agent${path}`]));

  beforeEach(() => shop('--mtu', '1400'));

  it('json is what the API answers', async () => {
    const found = await network();
    const json = (value: unknown) => `${JSON.stringify(value, undefined, 2)}\n`;
    expect(await ant.out('network-list', '--json')).toBe(json([found]));
    expect(await ant.out('network-list', '--output', 'json')).toBe(json([found]));
    expect(await ant.out('network-show', '-n', 'shop', '--json')).toBe(json(found));
    expect(await ant.out('network', 'inspect', 'shop', '--json')).toBe(json({ network: found, hosts: [] }));
    expect(await ant.out('endpoint-list', '--json')).toBe(json([]));
    expect(JSON.parse(await ant.out('status', '--json'))).toEqual({
      ...(await apiGet('/status')).status,
      reconcile: expect.anything(),
    });
    expect(await ant.out('version', '--json')).toBe(json({ client: VERSION, server: VERSION }));
    expect(await ant.out('network-delete', '-n', 'shop', '--json')).toBe(
      json({ network: ID, endpoints: [] }),
    );
  });

  it('yaml has the same', async () => {
    const { created_at, ns_handle_path } = await network();
    expect(await ant.out('network-list', '--output', 'yaml')).toBe(
      [
        `- id: ${ID}`,
        `  created_at: ${created_at}`,
        '  name: shop',
        '  type: overlay',
        `  ns_handle_path: ${ns_handle_path}`,
        '  vxlan_vni: 1',
        '  ip_range: 10.1.0.0/24',
        '  gateway: 10.1.0.1/24',
        '  mtu: 1400',
        `  dataplane: ${TEST_DATA_PLANE}`,
        '',
      ].join('\n'),
    );
  });

  it('table has columns under a head', async () => {
    expect(await ant.out('network-list', '--output', 'table')).toBe(HEAD + ROW);
    expect(await ant.out('network-show', '-n', 'shop', '--output', 'table')).toBe(HEAD + ROW);
    expect(await ant.out('version', '--output', 'table')).toBe(`CLIENT  SERVER\n${VERSION}  ${VERSION}\n`);
    expect(await ant.out('network-delete', '-n', 'shop', '--output', 'table')).toBe(
      `DELETED  ID\nnetwork  ${ID}\n`,
    );
    expect(await ant.out('network-list', '--output', 'table')).toBe('ID  NAME  VNI  RANGE  GATEWAY  MTU\n');
  });
});

describe('status', () => {
  it('says how the host is', async () => {
    await shop();
    const lines = (await ant.out('status')).split('\n');
    expect(lines).toEqual([
      expect.stringMatching(/^Host: {7}ant, agent v0\.1\.0, up \d+ s$/),
      expect.stringMatching(/^VTEP: {7}127\.0\.0\.1 on lo, MTU \d+$/),
      expect.stringMatching(/^etcd: {7}http:\/\/127\.0\.0\.1:\d+ answers, revision \d+$/),
      'Networks:   1 in the cluster, 0 on this host',
      'Hosts:      1 living',
      'Endpoints:  0 on this host, 0 active',
      expect.stringMatching(/^Reconcile: {2}(not yet|\d+ s ago), repairs: 0, pending teardowns: 0$/),
      '',
    ]);
  });
});

describe('exit status', () => {
  it.each([
    ['nothing', [], 'the command is missing; see sand-agent-cli --help'],
    [
      'an unknown command',
      ['network-destroy'],
      'there is no command network-destroy; see sand-agent-cli --help',
    ],
    [
      'an unknown flag',
      ['network-list', '--colour'],
      "Unknown option '--colour'; see sand-agent-cli network-list --help",
    ],
    [
      'a word too many',
      ['network-list', 'x'],
      'x is one word too many; see sand-agent-cli network-list --help',
    ],
    ['no network', ['network-show'], '--network is missing; see sand-agent-cli network-show --help'],
    ['no endpoint', ['endpoint-delete'], '--endpoint is missing; see sand-agent-cli endpoint-delete --help'],
    [
      'no value',
      ['network-show', '-n'],
      "Option '-n, --network <value>' argument missing; see sand-agent-cli network-show --help",
    ],
    [
      'no namespace',
      ['endpoint-create', '-n', 'a'],
      '--ns is missing; give the path of a network namespace, or --passive for an address alone',
    ],
    [
      'both kinds of endpoint',
      ['endpoint-create', '-n', 'a', '--ns', '/a', '--passive'],
      '--ns and --passive exclude each other',
    ],
    ['no URL', ['curl', '-n', 'a'], '<url> is missing; see sand-agent-cli curl --help'],
    [
      'a URL with a name',
      ['curl', '-n', 'a', 'http://db/'],
      "URL is http://db/; names are not resolved inside a network: give the IP address, and the name by -H 'Host: db'",
    ],
    [
      'a malformed header',
      ['curl', '-n', 'a', '-H', 'x', '10.0.0.2'],
      "--header is x; it must be like 'Accept: text/plain'",
    ],
    [
      'a strange port',
      ['network-connect', '-n', 'a', '--ip', '10.0.0.2', '--port', 'ssh'],
      '--port is ssh; it must be a whole number; see sand-agent-cli network-connect --help',
    ],
    ['a strange shell', ['completion', 'tcsh'], 'shell is tcsh; it must be bash, zsh or fish'],
    [
      'a wrong number',
      ['network-create', '--mtu', '1e3'],
      '--mtu is 1e3; it must be a whole number; see sand-agent-cli network-create --help',
    ],
    [
      'a wrong duration',
      ['network-list', '--timeout', 'soon'],
      '--timeout is soon; it must be a duration such as 30s or 1m30s',
    ],
    ['a wrong form', ['network-list', '--output', 'xml'], '--output is xml; it must be table, json, yaml'],
    [
      'two forms',
      ['network-list', '--json', '--output', 'yaml'],
      '--json and --output yaml exclude each other',
    ],
    [
      'a wrong URL of the API',
      ['network-list', '--api-url', 'agent:9999'],
      'API URL is agent:9999; it must begin with http://, https:// or unix://',
    ],
  ])('is 2 for %s, with one line that says so', async (_what, args, text) => {
    expect(await ant.cli(...args)).toEqual({ status: 2, stdout: '', stderr: `sand-agent-cli: ${text}\n` });
  });

  it.each([
    ['what the agent refuses', ['network-create', '--ip-range', '10.0.0.7/24'], /^ip_range .*host bits/],
    ['a network that is not there', ['network-show', '-n', 'shop'], /^No network is named shop/],
    ['an endpoint that is not there', ['endpoint-delete', '-e', ID], new RegExp(ID)],
    [
      'a certificate that is not there',
      ['network-list', '--api-url', 'https://127.0.0.1:1', '--ca-file', '/no'],
      /^The CA file \/no is not readable/,
    ],
  ])('is 1 for %s, with one line that says so', async (_what, args, text) => {
    const { status, stdout, stderr } = await ant.cli(...args);
    expect([status, stdout]).toEqual([1, '']);
    const [, line] = /^sand-agent-cli: (.*)\n$/.exec(stderr) ?? [];
    expect(line).toMatch(text);
  });

  it('is 1 when no agent answers, and version has said its own before', async () => {
    expect(await cli(['--api-url', 'http://127.0.0.1:1', 'version'])).toEqual({
      status: 1,
      stdout: `Client version: ${VERSION}\n`,
      stderr:
        'sand-agent-cli: No agent answers at http://127.0.0.1:1 (connect ECONNREFUSED 127.0.0.1:1); is sand-agent running, is the API URL right?\n',
    });
  });

  it('is 0 for a reader that has read enough', async () => {
    const line = `'${process.execPath}' '${CLI}' completion bash | true; echo "\${PIPESTATUS[0]}"`;
    expect(await run(['bash', '-c', line])).toEqual({ status: 0, stdout: '0\n', stderr: '' });
  });
});

describe('flags', () => {
  it('stand before or after the command, and in Go’s spelling', async () => {
    await shop();
    const line = `[${ID}] shop (overlay VNI: 1)\n`;
    for (const args of [
      ['--api-url', ant.apiUrl, 'network-show', '-n', 'shop'],
      ['network-show', '-n', 'shop', '--api-url', ant.apiUrl],
      ['-api-url', ant.apiUrl, 'network-show', '-network=shop'],
      ['network', 'show', `--api-url=${ant.apiUrl}`, '-n=shop'],
    ]) {
      expect(await cli(args)).toEqual({ status: 0, stdout: line, stderr: '' });
    }
  });

  it('come before the environment, and empty variables are none', async () => {
    const env = { SAND_API_URL: 'http://127.0.0.1:1', SAND_TIMEOUT: '', SAND_CA_FILE: '' };
    expect(await cli(['network-list', '--api-url', ant.apiUrl], { env })).toMatchObject({ status: 0 });
    expect(await cli(['network-list'], { env: { ...env, SAND_TIMEOUT: 'soon' } })).toMatchObject({
      status: 2,
    });
  });
});

it('--help of every command shows its flags and an example', async () => {
  const { stdout } = await cli(['--help']);
  const commands = [...stdout.matchAll(/^ {2}sand-agent-cli (\S+)/gm)].map(([, name]) => name ?? '');
  expect(commands).toHaveLength(19);
  for (const command of commands) {
    const help = await cli([command, '--help']);
    expect([help.status, help.stderr]).toEqual([0, '']);
    const line = command === 'network-inspect' ? 'network inspect' : command;
    expect(help.stdout).toMatch(new RegExp(`^Example, .*:\\n  sand-agent-cli .*${line}`, 'm'));
    expect(help.stdout).toContain('--api-url');
  }
}, 120_000); // a process for each of them

it('colours a terminal, not a pipe, and never against NO_COLOR', async () => {
  await shop();
  const onTerminal = (env: Record<string, string>) =>
    ok(['script', '-qec', `${process.execPath} ${CLI} network inspect shop`, '/dev/null'], {
      env: { SAND_API_URL: ant.apiUrl, TERM: 'xterm', NO_COLOR: undefined, ...env },
    });
  expect(await onTerminal({})).toContain('\x1b[1mshop\x1b[0m');
  expect(await onTerminal({ NO_COLOR: '1' })).not.toContain('\x1b');
  expect(await ant.out('network', 'inspect', 'shop')).not.toContain('\x1b');
});
