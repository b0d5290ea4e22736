/**
 * An etcd that misbehaves, under three real agents: traffic goes on, calls are answered in time with an error that names
 * etcd, teardowns are done here and finished later, and everything is current within two seconds of its return.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { SoakCluster } from '../soak/cluster.js';
import type { SoakHost } from '../soak/host.js';
import { Traffic } from '../soak/traffic.js';
import type { TestNetns } from '../support/netns.js';
import { until } from '../support/until.js';

const CURRENT_WITHIN_MS = 2_000;
const ANSWERED_WITHIN_MS = 12_500; // the plugin's deadline, and a little
const QUOTA_BYTES = 6 * 1024 ** 2;
const TICKS_PER_SECOND = 100; // of /proc/<pid>/stat (USER_HZ)

let cluster: SoakCluster;
let traffic: Traffic;
let network: string;
let ant: SoakHost;
let bee: SoakHost;

beforeAll(async () => {
  cluster = await SoakCluster.open({ flags: { 'quota-backend-bytes': `${QUOTA_BYTES}` } });
  [ant, bee] = cluster.hosts as [SoakHost, SoakHost];
  const steady = await cluster.network('steady', '10.1.0.0/24');
  network = await cluster.network('busy', '10.2.0.0/24');
  traffic = await Traffic.start(cluster, steady);
}, 60_000);
afterAll(async () => {
  await traffic[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
});

interface Made {
  readonly id: string;
  readonly target_veth_mac: string;
  readonly netns: TestNetns;
}

const wish = (netns: TestNetns) => ({
  network_id: network,
  activate: true,
  activate_params: { ns_handle_path: netns.path },
});

async function make(host: SoakHost): Promise<Made> {
  const netns = await cluster.netns();
  const { status, text } = await host.api('POST', '/endpoints', wish(netns));
  if (status !== 201) throw new Error(`${status} ${text}`);
  return { ...JSON.parse(text).endpoint, netns };
}

/** Whether ant's kernel sends to the endpoint of another host. */
async function isNeighbour({ target_veth_mac: mac }: Made): Promise<boolean> {
  const overlay = await ant.overlay(network);
  return (await overlay.fdb('vxlan0')).some(entry => entry.mac === mac && entry.dst !== undefined);
}

async function cpuTicks(host: SoakHost): Promise<number> {
  const stat = await readFile(`/proc/${host.agent.pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]); // utime and stime: proc(5), fields 14 and 15
}

const every = <T>(act: (member: number) => T): T[] => cluster.etcd.members.map((_, member) => act(member));

/** Other clients have filled the database; a person makes room, as etcd's manual says. */
const fill = async () => {
  const block = 'x'.repeat(100_000);
  await until(
    async () => {
      const put = cluster.etcd.ctl('put', `/others/${Math.random()}`, block);
      return put.then(
        () => false,
        error => String(error).includes('space exceeded'),
      );
    },
    { what: 'the database is full', timeoutMs: 20_000 },
  );
};
const makeRoom = async () => {
  await cluster.etcd.ctl('del', '/others/', '--prefix');
  const [member] = JSON.parse(await cluster.etcd.ctl('endpoint', 'status', '-w', 'json'));
  await cluster.etcd.ctl('compact', String(member.Status.header.revision));
  await cluster.etcd.ctl('defrag');
  await cluster.etcd.ctl('alarm', 'disarm');
};

const OUTAGES: readonly (readonly [string, () => Promise<unknown>, () => Promise<unknown>])[] = [
  [
    'all members killed',
    () => Promise.all(every(member => cluster.etcd.kill(member))),
    async () => {
      await Promise.all(every(member => cluster.etcd.restart(member, { wait: false })));
      await Promise.all(cluster.etcd.members.map(member => member.untilHealthy()));
    },
  ],
  [
    'silent, with its connections open',
    async () => every(member => cluster.etcd.pause(member)),
    async () => every(member => cluster.etcd.resume(member)),
  ],
  ['its quota exceeded', fill, makeRoom],
];

it.each(OUTAGES)(
  'etcd %s: answers in time, teardown here and now, current within 2 s',
  async (_what, begin, end) => {
    const [mine, theirs, kept] = [await make(ant), await make(bee), await make(bee)];
    await until(() => isNeighbour(theirs), { what: 'ant knows of it' });
    await begin();
    const [before, loggedBefore, beganAt] = [await cpuTicks(bee), bee.log.length, performance.now()];

    const refused = await ant.api('POST', '/endpoints', wish(await cluster.netns()));
    expect([refused.status, refused.text]).toEqual([503, expect.stringContaining('etcd')]);
    expect(refused.ms).toBeLessThan(ANSWERED_WITHIN_MS);
    const removed = await bee.api('DELETE', `/endpoints/${theirs.id}`);
    expect(removed.status).toBe(204);
    expect(removed.ms).toBeLessThan(ANSWERED_WITHIN_MS);
    expect(await theirs.netns.link('sand0')).toBeUndefined();
    expect((await ant.api('GET', '/status')).status).toBe(200);
    await sleep(Math.max(0, 8_000 - (performance.now() - beganAt))); // what a quiet agent does meanwhile
    const seconds = (performance.now() - beganAt) / 1_000;
    const cpu = ((await cpuTicks(bee)) - before) / TICKS_PER_SECOND / seconds;
    const lines = bee.log.slice(loggedBefore).split('\n').filter(Boolean);
    expect(lines.length).toBeLessThan(12);
    expect(cpu).toBeLessThan(0.15);

    await end();
    await until(async () => cluster.etcd.ctl('get', '/sc-net/network/', '--prefix', '--limit=1'), {
      what: 'etcd serves',
      timeoutMs: 20_000,
    });
    await until(async () => !(await isNeighbour(theirs)), {
      what: 'the teardown is finished, and known to others',
      timeoutMs: CURRENT_WITHIN_MS,
    });
    expect(await isNeighbour(kept)).toBe(true);
    const after = await make(bee);
    await until(() => isNeighbour(after), { what: 'news are known to others', timeoutMs: CURRENT_WITHIN_MS });
    for (const [host, { id }] of [
      [ant, mine],
      [bee, kept],
      [bee, after],
    ] as const) {
      expect((await host.api('DELETE', `/endpoints/${id}`)).status).toBe(204);
    }
    await cluster.untilSound(15_000);
  },
  90_000,
);

it('and no packet was lost', async () => {
  const { sent, lost } = await traffic.end();
  expect(lost).toBe(0);
  expect(sent).toBeGreaterThan(1_000);
});
