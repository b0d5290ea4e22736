/** `docker run --rm` as a person feels it, in turn on every kind of network: one after the other, and 20 at once. */
import { join } from 'node:path';
import { AgentProcess } from '../../test/support/agent-process.js';
import type { DockerHost } from '../../test/support/docker-host.js';
import { DockerLab } from '../../test/support/docker-lab.js';
import { missing } from '../requirements.js';
import {
  type Figure,
  type Floor,
  median,
  numbersOf,
  type Row,
  rounds,
  type Say,
  timed,
  times,
  unjudged,
} from '../row.js';

const ROUNDS = 20;
const WARM_UP = 2;
const BUDGET = 1.05;
const AT_ONCE = 20;
const ROUNDS_AT_ONCE = 3;
const SWARM_PORT = '4790'; // SAND's is Swarm's default
const SWARM_PATIENCE_MS = 40_000;

const ALONE = 'SAND --internal, no other container';
const BRIDGE = "Docker's user bridge";
const SWARM = "Swarm's overlay";
const BESIDE = [SWARM, 'none'];

interface Kind {
  readonly what: string;
  readonly host: DockerHost;
  readonly network: string;
  readonly isJudged?: boolean;
}

export const dockerRow: Row = {
  name: 'docker',
  what: `docker run --rm busybox true, ${ROUNDS} rounds in turn: SAND, Docker's user bridge, none, Swarm's overlay`,
  async run(say) {
    await using scene = await openScene();
    const run = ({ host, network }: Kind) => runOnce(host, network);
    const samples = await inTurn(scene.kinds, run, { count: rounds(ROUNDS), warmUp: WARM_UP, say });
    return figures('docker run --rm', scene, samples);
  },
};

export const dockerManyRow: Row = {
  name: 'docker-many',
  what: `${AT_ONCE} docker run --rm at once, until the last has ended, ${ROUNDS_AT_ONCE} rounds in turn`,
  async run(say) {
    await using scene = await openScene();
    const run = ({ host, network }: Kind) => Promise.all(times(AT_ONCE).map(() => runOnce(host, network)));
    // Twenty are not alone, and the budget is that of one.
    const kinds = scene.kinds.filter(({ what }) => what !== ALONE).map(({ isJudged: _, ...kind }) => kind);
    const samples = await inTurn(kinds, run, { count: rounds(ROUNDS_AT_ONCE), warmUp: 1, say });
    return figures(`${AT_ONCE} × docker run --rm at once`, { ...scene, kinds }, samples);
  },
};

const runOnce = (host: DockerHost, network: string) =>
  host.docker('run', '--rm', '--network', network, 'busybox', 'true');

interface Scene {
  readonly kinds: readonly Kind[];
  /** Why there is no figure of Swarm's. */
  readonly note: string | undefined;
}

async function openScene(): Promise<Scene & AsyncDisposable> {
  const lacking = await missing(['containerd', 'dockerd', 'docker', 'iptables'], { busybox: true });
  if (lacking.length > 0) throw new Error(lacking.join('; '));
  const lab = await DockerLab.start({ hosts: 2 });
  try {
    const etcd = await lab.startEtcd();
    const host = lab.host(1);
    const state = join(host.root, 'state');
    const flags = ['--etcd-hosts', etcd.hosts.join(','), '--peer-ip', host.address, '--state-dir', state];
    await AgentProcess.start(host, { flags }); // ends with the lab
    const kinds = await makeNetworks(host);
    // On a host of its own: what Swarm does beside costs the others nothing in their dockerd.
    const note = await makeSwarm(lab.host(2));
    const all = note === undefined ? [...kinds, { what: SWARM, host: lab.host(2), network: 'swarm' }] : kinds;
    return { kinds: all, note, [Symbol.asyncDispose]: () => lab.stop() };
  } catch (error) {
    await lab.stop();
    throw error;
  }
}

async function makeNetworks(host: DockerHost): Promise<Kind[]> {
  const create = ['network', 'create', '--driver', 'sand', '--ipam-driver', 'sand'];
  const named = (name: string) => ['--opt', `sand-name=${name}`, '--ipam-opt', `sand-name=${name}`, name];
  for (const name of ['alone', 'used']) await host.docker(...create, '--internal', ...named(name));
  await host.docker(...create, ...named('gateway'));
  await host.docker('network', 'create', 'bridged');
  for (const name of ['used', 'gateway']) {
    await host.docker('run', '-d', '--network', name, 'busybox', 'sleep', '3600');
  }
  return [
    { what: ALONE, host, network: 'alone', isJudged: true },
    { what: 'SAND --internal, in use', host, network: 'used', isJudged: true },
    { what: "SAND with Docker's gateway bridge, in use", host, network: 'gateway' },
    { what: BRIDGE, host, network: 'bridged' },
    { what: 'none', host, network: 'none' },
  ];
}

/** Answers why there is none, where the daemon or the kernel refuses. */
async function makeSwarm(host: DockerHost): Promise<string | undefined> {
  const steps = [
    ['swarm', 'init', '--advertise-addr', host.address, '--data-path-port', SWARM_PORT],
    ['network', 'create', '--driver', 'overlay', '--attachable', 'swarm'],
    ['run', '-d', '--network', 'swarm', 'busybox', 'sleep', '3600'],
  ];
  for (const step of steps) {
    const refused = await host
      .runDocker(step, { timeoutMs: SWARM_PATIENCE_MS })
      .then(({ status, stderr }) => (status === 0 ? undefined : stderr.trim()), String);
    if (refused !== undefined) return `no figure of ${SWARM}: docker ${step.join(' ')}: ${refused}`;
  }
  return undefined;
}

interface Turns {
  readonly count: number;
  readonly warmUp: number;
  readonly say: Say;
}

type Samples = ReadonlyMap<string, readonly number[]>;

async function inTurn(
  kinds: readonly Kind[],
  run: (kind: Kind) => Promise<unknown>,
  turns: Turns,
): Promise<Samples> {
  const { count, warmUp, say } = turns;
  const samples = new Map<string, number[]>(kinds.map(({ what }) => [what, []]));
  for (const round of times(warmUp + count)) {
    for (const kind of rotated(kinds, round)) {
      const took = await timed(() => run(kind));
      if (round >= warmUp) samples.get(kind.what)?.push(took);
    }
    if (round % 5 === 4 || count < 5) say(`round ${round + 1} of ${warmUp + count}`);
  }
  return samples;
}

/** Nobody always comes first: what a run leaves to be cleaned up falls on the next. */
function rotated<T>(list: readonly T[], by: number): T[] {
  const at = by % list.length;
  return [...list.slice(at), ...list.slice(0, at)];
}

function figures(work: string, { kinds, note }: Scene, samples: Samples): Figure[] {
  const floorOf = (what: string): Floor => ({ what, value: median(samples.get(what) ?? []) });
  const bridge = floorOf(BRIDGE);
  const beside = BESIDE.filter(what => samples.has(what)).map(floorOf);
  return kinds.map(({ what, isJudged }) => {
    const ours = numbersOf(samples.get(what) ?? []);
    const compared = what === BRIDGE ? {} : { floor: bridge };
    const judged = isJudged
      ? { budget: `≤ ${BUDGET} × user bridge`, met: ours.p50 <= BUDGET * bridge.value }
      : unjudged;
    return {
      what: `${work}, ${what}`,
      unit: 'ms',
      ours,
      ...compared,
      ...(what.startsWith('SAND') ? { beside } : {}),
      ...judged,
      ...(note === undefined ? {} : { note }),
    };
  });
}
