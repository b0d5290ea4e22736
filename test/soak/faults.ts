/** What goes wrong in a soak: each from a real cause, and over when its function answers. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NetnsPath } from '../../model/scalars.js';
import { run } from '../support/command.js';
import { TestNetns } from '../support/netns.js';
import type { SoakCluster } from './cluster.js';
import type { SoakHost } from './host.js';

export interface Fault {
  readonly name: string;
  /** @param busy id of the network whose kernel objects may be damaged */
  inflict(cluster: SoakCluster, busy: string): Promise<void>;
}

const any = <T>(list: readonly T[]): T => {
  const one = list[Math.floor(Math.random() * list.length)];
  if (one === undefined) throw new Error('Nothing to choose from');
  return one;
};

const onHost =
  (act: (host: SoakHost) => Promise<void>) =>
  (cluster: SoakCluster): Promise<void> =>
    act(any(cluster.hosts));

/** Damages the busy network's namespace on some host; without one there is nothing to be damaged. */
const inOverlay =
  (act: (overlay: TestNetns, path: string) => Promise<unknown>) =>
  async (cluster: SoakCluster, busy: string): Promise<void> => {
    const host = any(cluster.hosts);
    const [file] = (await readdir(host.overlays)).filter(name => name.endsWith(busy));
    if (file === undefined) return;
    const path = join(host.overlays, file);
    await act(new TestNetns(path as NetnsPath), path);
  };

async function anyPort(overlay: TestNetns): Promise<string | undefined> {
  const ports = (await overlay.links()).filter(
    ({ linkinfo, master }) => linkinfo?.info_kind === 'veth' && master,
  );
  return ports.length > 0 ? any(ports).ifname : undefined;
}

async function leader(cluster: SoakCluster): Promise<number> {
  const status: { Status: { leader: number; header: { member_id: number } } }[] = JSON.parse(
    await cluster.etcd.ctl('endpoint', 'status', '-w', 'json'),
  );
  return Math.max(
    status.findIndex(({ Status }) => Status.leader === Status.header.member_id),
    0,
  );
}

const etcdDown = (seconds: number) => async (cluster: SoakCluster) => {
  const all = cluster.etcd.members.map((_, i) => i);
  await Promise.all(all.map(i => cluster.etcd.kill(i)));
  await sleep(seconds * 1_000);
  await Promise.all(all.map(i => cluster.etcd.restart(i, { wait: false })));
  await Promise.all(cluster.etcd.members.map(member => member.untilHealthy()));
};

export const FAULTS: readonly Fault[] = [
  { name: 'agent: kill -9', inflict: onHost(host => host.killAndStart()) },
  { name: 'agent: restarted', inflict: onHost(host => host.stopAndStart()) },
  {
    name: 'agent: frozen for 5 s',
    inflict: onHost(async host => {
      host.agent.signal('SIGSTOP');
      await sleep(5_000);
      host.agent.signal('SIGCONT');
    }),
  },
  {
    name: 'all agents: kill -9',
    inflict: async cluster => void (await Promise.all(cluster.hosts.map(host => host.killAndStart()))),
  },
  {
    name: 'etcd: leader killed',
    async inflict(cluster) {
      const member = await leader(cluster);
      await cluster.etcd.kill(member);
      await sleep(4_000);
      await cluster.etcd.restart(member);
    },
  },
  {
    name: 'etcd: a member frozen for 5 s',
    async inflict(cluster) {
      const member = Math.floor(Math.random() * 3);
      cluster.etcd.pause(member);
      await sleep(5_000);
      cluster.etcd.resume(member);
    },
  },
  { name: 'etcd: down for 8 s', inflict: etcdDown(8) },
  {
    name: 'etcd: compacted while an agent is frozen',
    async inflict(cluster) {
      const host = any(cluster.hosts);
      host.agent.signal('SIGSTOP');
      await sleep(2_000);
      const status = JSON.parse(await cluster.etcd.ctl('endpoint', 'status', '-w', 'json'));
      await cluster.etcd.ctl('compact', String(status[0].Status.header.revision));
      host.agent.signal('SIGCONT');
    },
  },
  {
    name: 'kernel: FDB flushed',
    inflict: inOverlay(async overlay => {
      for (const { mac, dst } of await overlay.fdb('vxlan0')) {
        if (dst && mac !== '00:00:00:00:00:00')
          await overlay.run('bridge', 'fdb', 'del', mac, 'dev', 'vxlan0', 'dst', dst, 'self');
      }
    }),
  },
  {
    name: 'kernel: neighbours flushed',
    inflict: inOverlay(overlay => overlay.run('ip', 'neigh', 'flush', 'dev', 'vxlan0', 'nud', 'permanent')),
  },
  {
    name: 'kernel: VXLAN deleted',
    inflict: inOverlay(overlay => overlay.run('ip', 'link', 'del', 'vxlan0')),
  },
  {
    name: 'kernel: MTU changed',
    inflict: inOverlay(overlay => overlay.run('ip', 'link', 'set', 'br0', 'mtu', '1300')),
  },
  {
    name: 'kernel: port deleted',
    inflict: inOverlay(async overlay => {
      const port = await anyPort(overlay);
      if (port) await overlay.run('ip', 'link', 'del', port);
    }),
  },
  {
    name: 'kernel: port taken from its bridge',
    inflict: inOverlay(async overlay => {
      const port = await anyPort(overlay);
      if (port) await overlay.run('ip', 'link', 'set', port, 'nomaster');
    }),
  },
  {
    name: 'kernel: namespace file unmounted',
    inflict: inOverlay((_, path) => run(['umount', '--lazy', path])),
  },
];

export const LONG_OUTAGE: Fault = { name: 'etcd: down for 10 minutes', inflict: etcdDown(600) };
