import { CliHost } from '../support/cli-host.js';
import { ON_BRIDGE } from '../support/data-plane.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { NetnsLab, type TestNetns } from '../support/netns.js';

let etcd: EtcdCluster;
let lab: NetnsLab;
let ant: CliHost;
let bee: CliHost;
let red: TestNetns;
let blue: TestNetns;
let tests = 0;

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());

beforeEach(async () => {
  lab = await NetnsLab.open();
  const [first, second] = await lab.hosts('ant', 'bee');
  [red, blue] = [await lab.netns('red'), await lab.netns('blue')];
  const plan = { hosts: etcd.hosts, prefix: `/cli-endpoints${++tests}` };
  ant = lab.own(await CliHost.open({ ...plan, name: 'ant', netns: first, vtep: '10.99.0.1' }));
  bee = lab.own(await CliHost.open({ ...plan, name: 'bee', netns: second, vtep: '10.99.0.2' }));
  await ant.out('network-create', '--id', NETWORK, '--name', 'shop', '--mtu', '1400');
});
afterEach(() => lab[Symbol.asyncDispose]());

const NETWORK = '6ffc3990-b212-47f2-a5d1-2afe7526e548';
const idIn = (text: string) => / ID=(\S+)/.exec(text)?.[1] ?? 'none';
const line = (id: string, host: string, ip: string, netns?: TestNetns) =>
  `* ${netns ? '[ACTIVE]  ' : '[PASSIVE] '}ID=${id} networkID=${NETWORK} hostname=${host} IP=${ip}${
    netns ? ` NS=${netns.path}` : ''
  }\n`;
const create = (host: CliHost, ...args: readonly string[]) =>
  host.out('endpoint-create', '--network', 'shop', ...args);

describe('endpoint-create', () => {
  it('puts sand0 into the namespace and prints the line that scripts parse', async () => {
    const made = await create(ant, '--ns', red.path);
    expect(made).toBe(`New endpoint created:\n${line(idIn(made), 'ant', '10.0.0.2/24', red)}`);
    expect(await red.addresses('sand0')).toEqual(['10.0.0.2/24 brd 10.0.0.255']);
    expect(await red.link('sand0')).toMatchObject({ mtu: 1400, address: '02:84:0a:00:00:02' });
  });

  it('takes the network by id, address and MAC', async () => {
    const args = ['--ip', '10.0.0.77', '--mac', '02:00:00:00:00:77', '--ns', red.path];
    const made = await ant.out('endpoint-create', '-n', NETWORK, ...args);
    expect(made).toBe(`New endpoint created:\n${line(idIn(made), 'ant', '10.0.0.77/24', red)}`);
    expect(await red.link('sand0')).toMatchObject({ address: '02:00:00:00:00:77' });
  });

  it('makes a passive endpoint only when told so', async () => {
    expect(await ant.cli('endpoint-create', '-n', 'shop')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('--ns is missing'),
    });
    const made = await create(ant, '--passive');
    expect(made).toBe(`New endpoint created:\n${line(idIn(made), 'ant', '10.0.0.2/24')}`);
  });

  it.each([
    ['a taken address', ['--passive', '--ip', '10.0.0.1'], '10.0.0.1'],
    ['what is no namespace', ['--ns', '/etc/passwd'], '/etc/passwd'],
  ])('says why %s is refused, and changes nothing', async (_what, args, text) => {
    const { status, stdout, stderr } = await ant.cli('endpoint-create', '-n', 'shop', ...args);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toContain(text);
    expect(await ant.out('endpoint-list')).toBe('List of endpoints:\n');
  });
});

describe('of endpoints on two hosts', () => {
  let onAnt: string;
  let onBee: string;
  let passive: string;

  beforeEach(async () => {
    onAnt = idIn(await create(ant, '--ns', red.path));
    onBee = idIn(await create(bee, '--ns', blue.path));
    passive = idIn(await create(ant, '--passive', '--ip', '10.0.0.100'));
  });

  const ids = (text: string) => [...text.matchAll(/ ID=(\S+) /g)].map(([, id]) => id).sort();

  it('endpoint-list shows all, of a network, of a host, or of both', async () => {
    const all = [onAnt, onBee, passive].sort();
    expect(ids(await ant.out('endpoint-list'))).toEqual(all);
    expect(ids(await ant.out('endpoint-list', '--hostname', 'all'))).toEqual(all);
    expect(ids(await bee.out('endpoint-list', '-n', 'shop'))).toEqual(all);
    expect(ids(await ant.out('endpoint-list', '-n', 'shop', '--hostname', 'ant'))).toEqual(
      [onAnt, passive].sort(),
    );
    expect(await ant.out('endpoint-list', '--hostname', 'bee')).toBe(
      `List of endpoints:\n${line(onBee, 'bee', '10.0.0.3/24', blue)}`,
    );
    expect(await ant.out('endpoint-list', '--hostname', 'cat')).toBe('List of endpoints:\n');
  });

  it('network inspect shows a tree', async () => {
    const tree = [
      `shop [${NETWORK}] VNI 1, 10.0.0.0/24, gateway 10.0.0.1/24, MTU 1400${ON_BRIDGE ? '' : ', macvlan'}`,
      '├─ ant VTEP 10.99.0.1',
      `│  ├─ ACTIVE   10.0.0.2/24    02:84:0a:00:00:02  ${onAnt}  sand0 in ${red.path}`,
      `│  └─ PASSIVE  10.0.0.100/24  02:84:0a:00:00:64  ${passive}`,
      '└─ bee VTEP 10.99.0.2',
      `   └─ ACTIVE  10.0.0.3/24  02:84:0a:00:00:03  ${onBee}  sand0 in ${blue.path}`,
      '',
    ].join('\n');
    expect(await ant.out('network', 'inspect', 'shop')).toBe(tree);
    expect(await bee.out('network-inspect', '-n', NETWORK)).toBe(tree);
  });

  it('--output shows the same objects in every form', async () => {
    const found = JSON.parse(await ant.out('endpoint-list', '--hostname', 'bee', '--json'));
    expect(found).toMatchObject([{ id: onBee, target_veth_name: 'sand0', active: true }]);
    expect(JSON.parse(await ant.out('network', 'inspect', 'shop', '--json'))).toMatchObject({
      network: { id: NETWORK },
      hosts: [
        { hostname: 'ant', vtep: '10.99.0.1', endpoints: [{ id: onAnt }, { id: passive }] },
        { hostname: 'bee', vtep: '10.99.0.2', endpoints: found },
      ],
    });
    expect(await ant.out('endpoint-list', '--hostname', 'bee', '--output', 'yaml')).toContain(
      `- id: ${onBee}\n  network_id: ${NETWORK}\n  hostname: bee\n  host_ip: 10.99.0.2\n`,
    );
    const wide = (text: string) => text.padEnd(36);
    expect(await ant.out('endpoint-list', '--hostname', 'bee', '--output', 'table')).toBe(
      [
        `${wide('ID')}  ${wide('NETWORK')}  HOST  STATE   IP           MAC                INTERFACE  NS`,
        `${onBee}  ${NETWORK}  bee   ACTIVE  10.0.0.3/24  02:84:0a:00:00:03  sand0      ${blue.path}`,
        '',
      ].join('\n'),
    );
  });

  it('endpoint-delete removes those of its own host only', async () => {
    expect(await ant.out('endpoint-delete', '-e', onAnt)).toBe(`Endpoint '${onAnt}' deleted.\n`);
    expect(await red.link('sand0')).toBeUndefined();
    const refused = await ant.cli('endpoint-delete', '-e', onBee);
    expect(refused).toMatchObject({ status: 1, stdout: '', stderr: expect.stringContaining('bee') });
    expect(JSON.parse(await bee.out('endpoint-delete', '--endpoint', onBee, '--json'))).toEqual({
      endpoint: onBee,
    });
    expect(ids(await ant.out('endpoint-list'))).toEqual([passive]);
  });

  it('network-delete --recursive deletes all or nothing', async () => {
    expect(await ant.cli('network-delete', '-n', 'shop', '-r')).toMatchObject({
      status: 1,
      stdout: '',
      stderr: expect.stringContaining('Network shop has endpoints on bee'),
    });
    expect(ids(await ant.out('endpoint-list'))).toHaveLength(3);
    await bee.out('endpoint-delete', '-e', onBee);
    const lines = (await ant.out('network-delete', '-rn', 'shop')).split('\n');
    expect(lines.slice(0, 2).sort()).toEqual([onAnt, passive].map(id => `Endpoint '${id}' deleted.`).sort());
    expect(lines.slice(2)).toEqual([`Network ${NETWORK} has been deleted`, '']);
    expect(await ant.out('network-list')).toBe('No existing network\n');
  });

  it('network-delete refuses a network in use, and --force removes what this host has', async () => {
    expect(await ant.cli('network-delete', '-n', 'shop')).toMatchObject({ status: 1, stdout: '' });
    expect(ids(await ant.out('endpoint-list'))).toHaveLength(3);
    await bee.out('endpoint-delete', '-e', onBee);
    expect(await ant.out('network-delete', '-n', 'shop', '--force')).toBe(
      `Network ${NETWORK} has been deleted\n`,
    );
    expect(await red.link('sand0')).toBeUndefined();
  });

  it('status counts them', async () => {
    expect(await ant.out('status')).toContain('VTEP:       10.99.0.1 on eth0, MTU 1500\n');
    expect(await ant.out('status')).toContain(
      'Networks:   1 in the cluster, 1 on this host\nHosts:      2 living\nEndpoints:  2 on this host, 1 active\n',
    );
  });
});
