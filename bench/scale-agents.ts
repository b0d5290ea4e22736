/** Some of the simulated agents, in a process of their own: started, asked and stopped by messages of the parent. */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { Engine } from '../engine/engine.js';
import { Kernel } from '../overlay/kernel.js';
import { StoreClient } from '../store/client.js';
import { KEYS } from './lab.js';
import { hostName, identityOf, type KernelSum, numberOf, vtepOf } from './scale-cluster.js';
import { CountingThread } from './scale-thread.js';

const nowMs = () => Number(process.hrtime.bigint()) / 1e6;
const [etcd = '', directory = ''] = process.argv.slice(2);
const problems = new Map<string, number>();
/** A line of each text that an operator would have to read. */
const note = (text: string, facts?: object) => {
  const line = `${text}${facts && 'err' in facts ? `: ${String(facts.err).slice(0, 160)}` : ''}`;
  problems.set(line, (problems.get(line) ?? 0) + 1);
};
const log = { debug() {}, info() {}, warn: note, error: note };

interface Agent {
  readonly engine: Engine;
  readonly thread: CountingThread;
  readonly startedAt: number;
  /** First snapshot, and kernel as wanted; undefined: not yet. */
  knowsAt: number | undefined;
  servesAt: number | undefined;
}

const agents: Agent[] = [];
/** When each agent heard of an endpoint, and when its kernel would have had it. */
const heard = new Map<string, number[]>();
const applied = new Map<string, number[]>();
const push = (map: Map<string, number[]>, key: string) => {
  const known = map.get(key);
  if (known) known.push(nowMs());
  else map.set(key, [nowMs()]);
};

async function start(n: number): Promise<void> {
  const thread = new CountingThread();
  const kernel = await Kernel.start({ log, thread: () => thread });
  const engine = new Engine({
    store: new StoreClient({ hosts: etcd.split(',') }),
    keys: KEYS,
    kernel,
    host: {
      name: hostName(n),
      vtep: vtepOf(n),
      apiHostname: '',
      netnsPath: '/run/netns',
      netnsPrefix: 'sc-ns-',
      vxlanPort: 4789,
      vxlanChecksum: true,
      maxVni: 999_999,
      dataPlane: 'bridge',
    },
    journalPath: join(directory, `journal-${n}`),
    identity: { id: identityOf(n), instance: randomUUID() },
    version: 'bench',
    hostDeadAfterSeconds: 0,
    log,
  });
  const agent: Agent = { engine, thread, startedAt: nowMs(), knowsAt: undefined, servesAt: undefined };
  agents.push(agent);
  thread.onPeers = peers => {
    for (const { mac } of peers) push(applied, mac);
  };
  engine.mirror.onEvent(event => {
    if (event.kind === 'peer' && event.after && engine.mirror.revision > 0)
      push(heard, event.after.endpointId);
  });
  engine.start();
  // Patiently: `ready` itself gives up after 5 s, so that callers of a real agent get an answer.
  while (engine.mirror.revision === 0) await engine.ready().catch(() => undefined);
  agent.knowsAt = nowMs();
}

function sumOf({ thread }: Agent): KernelSum {
  const sum = { count: 0, sum: 0 };
  for (const [netns, { address, mac, vtep }] of thread.entries()) {
    sum.count += 1;
    sum.sum += numberOf(netns.slice('/run/netns/sc-ns-'.length), address, mac, vtep);
  }
  return sum;
}

async function stop(): Promise<void> {
  await Promise.all(
    agents.splice(0).map(async ({ engine }) => {
      await engine[Symbol.asyncDispose]();
      await engine.options.store[Symbol.asyncDispose]();
      await engine.options.kernel[Symbol.asyncDispose]();
    }),
  );
}

const questions = {
  start: async (numbers: number[]) => {
    for (const n of numbers) start(n).catch(error => note(String(error)));
  },
  state: async () =>
    agents.map(agent => ({
      host: agent.engine.options.host.name,
      revision: agent.engine.mirror.revision,
      knowsMs: agent.knowsAt && agent.knowsAt - agent.startedAt,
      networks: agent.thread.networks,
      held: agent.engine.claim.state.state === 'held',
      messages: agent.thread.messages,
      reconciles: agent.thread.reconciles,
    })),
  sums: async () => agents.map(agent => ({ host: agent.engine.options.host.name, ...sumOf(agent) })),
  heard: async ([id, mac]: [string, string]) => ({
    heard: heard.get(id) ?? [],
    applied: applied.get(mac) ?? [],
  }),
  memory: async () => {
    globalThis.gc?.();
    globalThis.gc?.();
    return process.memoryUsage();
  },
  cpu: async () => process.cpuUsage(),
  problems: async () => {
    const all = [...problems];
    problems.clear();
    return all;
  },
  stop,
};

process.on('message', async ({ id, question, argument }) => {
  const answer = await questions[question as keyof typeof questions](argument as never).then(
    result => ({ id, result }),
    (error: Error) => ({ id, error: error.stack }),
  );
  process.send?.(answer);
});
process.on('disconnect', () => process.exit());
