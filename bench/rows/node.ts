/** Node itself under load: how late the main thread's timers are, and how long it collects garbage. */
import { access, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { until } from '../../test/support/until.js';
import { BenchLab } from '../lab.js';
import type { Probed } from '../node-probe.js';
import { median, type Row, rounds, single, times, unjudged } from '../row.js';
import { pidsOf, RUSH_RANGE, rush, rushClients } from '../rush.js';

const CLIENTS = 64;
const EACH = 12;
const ROUNDS = 5;
const BUDGET_MS = 10;
const PRELOAD = new URL('../node-probe.js', import.meta.url).href;

export const eventLoopRow: Row = {
  name: 'event-loop',
  what: `event-loop delay and garbage collection of an agent while ${CLIENTS} callers make and remove endpoints`,
  async run(say) {
    await using lab = await BenchLab.start(1);
    const file = join(lab.root, 'probe.json');
    await using agent = await lab.startAgent(0, {
      nodeFlags: ['--import', PRELOAD],
      env: { BENCH_PROBE: file },
    });
    const api = agent.api();
    const network = await api.createNetwork({ name: 'busy', ip_range: RUSH_RANGE });
    api.close();
    await using clients = await rushClients([agent], { networks: [network], perAgent: CLIENTS });
    await rush(clients.list, EACH, pidsOf(lab, [agent])); // to warm up
    const idle = await startIdle(lab);
    const ours: Probe = { file, signal: () => agent.process.signal('SIGUSR2') };
    await takeProbe(ours);
    await takeProbe(idle);
    const probes: Probed[] = [];
    const beside: Probed[] = [];
    for (const _ of times(rounds(ROUNDS))) {
      const { perSecond, failures } = await rush(clients.list, EACH, pidsOf(lab, [agent]));
      const [failed] = failures;
      if (failed) throw new Error(`${failures.length} calls failed, which is other work: ${failed}`);
      const probed = await takeProbe(ours);
      beside.push(await takeProbe(idle));
      say(
        `${perSecond.toFixed(0)}/s made, delay p99 ${probed.delayP99.toFixed(1)} ms, at most ${probed.delayMax.toFixed(1)} ms`,
      );
      probes.push(probed);
    }
    return figures(probes, beside);
  },
};

interface Probe {
  readonly file: string;
  signal(): void;
}

/** A process that does nothing: how late a timer is because the machine is busy. It ends with the lab. */
async function startIdle(lab: BenchLab): Promise<Probe> {
  const file = join(lab.root, 'idle-probe.json');
  const argv = [process.execPath, '--import', PRELOAD, '--eval', 'setInterval(() => {}, 1000)'];
  const env = { ...process.env, BENCH_PROBE: file };
  const child = lab.host(0).namespaces.spawn(argv, { stdio: 'ignore', env });
  child.unref();
  await until(() => access(file).then(() => true), {
    what: 'an idle process has started',
    timeoutMs: 15_000,
  });
  return { file, signal: () => child.kill('SIGUSR2') };
}

/** What happened since the last time. */
async function takeProbe({ file, signal }: Probe): Promise<Probed> {
  await rm(file, { force: true });
  signal();
  const text = await until(() => readFile(file, 'utf8'), {
    what: 'a process tells of its event loop',
    everyMs: 5,
  });
  return JSON.parse(text) as Probed;
}

function figures(probes: readonly Probed[], idle: readonly Probed[]) {
  const middle = (of: (probed: Probed) => number) => median(probes.map(of));
  const p99 = middle(({ delayP99 }) => delayP99);
  const worst = Math.max(...probes.map(({ delayMax }) => delayMax));
  return [
    {
      what: `event-loop delay, ${CLIENTS} clients`,
      unit: 'ms',
      ours: { p50: middle(({ delayP50 }) => delayP50), p99, count: probes.length },
      beside: [
        { what: 'p99 of a process that does nothing', value: median(idle.map(({ delayP99 }) => delayP99)) },
      ],
      budget: `p99 < ${BUDGET_MS} ms`,
      met: p99 < BUDGET_MS,
      note: `medians of the rounds; the longest delay of all was ${worst.toFixed(1)} ms`,
    },
    {
      what: 'main thread busy',
      unit: '%',
      ours: single(100 * middle(({ utilization }) => utilization)),
      ...unjudged,
    },
    {
      what: 'of the time in garbage collection',
      unit: '%',
      ours: single(100 * middle(({ garbage, elapsed }) => garbage / elapsed)),
      ...unjudged,
    },
  ];
}
