/** `docker run --rm` as a person feels it, in turn on every kind of network. */
import { join } from 'node:path';
import { AgentProcess } from '../test/support/agent-process.js';
import type { DockerHost } from '../test/support/docker-host.js';
import { DockerLab } from '../test/support/docker-lab.js';
import { missing } from './requirements.js';
import { type Figure, median, numbersOf, type Row, timed, times } from './row.js';

const ROUNDS = 20;
const WARM_UP = 2;
const BUDGET = 1.05;

/** What the table says of it → the network's name. */
const NETWORKS = {
  'SAND --internal, no other container': 'alone',
  'SAND --internal, in use': 'used',
  "Docker's user bridge": 'bridged',
  none: 'none',
} as const;
const BASELINE = "Docker's user bridge";

export const dockerRow: Row = {
  name: 'docker',
  what: `docker run --rm busybox true, ${ROUNDS} rounds in turn: SAND --internal, Docker's user bridge, none`,
  async run(say) {
    const lacking = await missing(['containerd', 'dockerd', 'docker', 'iptables'], { busybox: true });
    if (lacking.length > 0) throw new Error(lacking.join('; '));
    await using lab = await DockerLab.start({ hosts: 1 });
    const etcd = await lab.startEtcd();
    const host = lab.host(1);
    const state = join(host.root, 'state');
    const flags = ['--etcd-hosts', etcd.hosts.join(','), '--peer-ip', host.address, '--state-dir', state];
    await using _agent = await AgentProcess.start(host, { flags });
    await makeNetworks(host);
    const samples = new Map<string, number[]>(Object.keys(NETWORKS).map(kind => [kind, []]));
    for (const round of times(WARM_UP + ROUNDS)) {
      for (const [kind, network] of rotated(Object.entries(NETWORKS), round)) {
        const took = await timed(() => host.docker('run', '--rm', '--network', network, 'busybox', 'true'));
        if (round >= WARM_UP) samples.get(kind)?.push(took);
      }
      if (round % 5 === 4) say(`round ${round + 1} of ${WARM_UP + ROUNDS}`);
    }
    return figures(samples);
  },
};

async function makeNetworks(host: DockerHost): Promise<void> {
  const sand = ['network', 'create', '--internal', '--driver', 'sand', '--ipam-driver', 'sand'];
  for (const name of [NETWORKS['SAND --internal, no other container'], NETWORKS['SAND --internal, in use']]) {
    await host.docker(...sand, '--opt', `sand-name=${name}`, '--ipam-opt', `sand-name=${name}`, name);
  }
  await host.docker('network', 'create', NETWORKS[BASELINE]);
  await host.docker(
    'run',
    '-d',
    '--network',
    NETWORKS['SAND --internal, in use'],
    'busybox',
    'sleep',
    '3600',
  );
}

/** Nobody always comes first: what a run leaves to be cleaned up falls on the next. */
function rotated<T>(list: readonly T[], by: number): T[] {
  const at = by % list.length;
  return [...list.slice(at), ...list.slice(0, at)];
}

function figures(samples: ReadonlyMap<string, readonly number[]>): Figure[] {
  const value = median(samples.get(BASELINE) ?? []);
  return [...samples].map(([kind, values]) => {
    const ours = numbersOf(values);
    const judged = kind.startsWith('SAND');
    return {
      what: kind,
      unit: 'ms',
      ours,
      ...(kind === BASELINE ? {} : { floor: { what: BASELINE, value } }),
      budget: judged ? `≤ ${BUDGET} × user bridge` : '',
      met: judged ? ours.p50 <= BUDGET * value : undefined,
    };
  });
}
