/**
 * `make demo`: two Docker hosts on this machine, one etcd, two agents, one network, a container on each. They ping
 * each other; then what the kernel holds of it is drawn, and everything is removed.
 */
import { join } from 'node:path';
import { AgentProcess } from '../test/support/agent-process.js';
import type { DockerHost } from '../test/support/docker-host.js';
import { DockerLab } from '../test/support/docker-lab.js';
import { type ContainerFacts, type HostFacts, readHost } from './demo-facts.js';
import { drawDemo, type PingFacts } from './demo-picture.js';
import { type Colour, painter, wrap } from './drawing.js';
import { missing } from './requirements.js';

const NETWORK = 'shop';
const CONTAINERS = ['web', 'cart'] as const;
const PINGS = 10;
const startedAt = performance.now();
const paint = painter(process.stdout);

const INDENT = 9;
const COLUMNS = 100;

/** A line of progress with the time since the start; a long one goes on below itself. */
function say(text: string, colour?: Colour): void {
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1).padStart(5);
  const [first = '', ...more] = wrap(text, COLUMNS - INDENT);
  const show = (line: string) => (colour ? paint(line, colour) : line);
  process.stdout.write(`${paint(`${seconds} s`, 'dim')}  ${show(first)}\n`);
  for (const line of more) process.stdout.write(`${' '.repeat(INDENT)}${show(line)}\n`);
}

/** A command as a person would type it there, run by the docker program. */
async function type(host: DockerHost, number: number, ...args: readonly string[]): Promise<string> {
  say(`host ${number} # docker ${args.join(' ')}`, 'cyan');
  return host.docker(...args);
}

async function startAgent(host: DockerHost, etcd: string): Promise<AgentProcess> {
  const state = join(host.root, 'state'); // /var/lib is the machine's own, shared by its hosts
  const flags = ['--etcd-hosts', etcd, '--peer-ip', host.address, '--state-dir', state];
  return AgentProcess.start(host, { flags });
}

const create = ['--driver', 'sand', '--ipam-driver', 'sand'];
const named = ['--opt', `sand-name=${NETWORK}`, '--ipam-opt', `sand-name=${NETWORK}`];

async function demo(): Promise<void> {
  say('starting two Docker hosts on one switch: namespaces, containerd, dockerd');
  await using lab = await DockerLab.start({ hosts: 2 });
  const [host1, host2] = [lab.host(1), lab.host(2)];
  say('starting etcd, and an agent on each host');
  const etcd = await lab.startEtcd();
  const agents = await Promise.all(lab.hosts.map(host => startAgent(host, etcd.hosts.join(','))));
  const answered = agents.map(agent => `${agent.startMs.toFixed(0)} ms`).join(' and ');
  say(`the agents' Docker plugins answered after ${answered}`);

  const hosts = [host1, host2] as const;
  for (const [index, host] of hosts.entries()) {
    await type(host, index + 1, 'network', 'create', ...create, ...named, NETWORK);
  }
  for (const [index, host] of hosts.entries()) {
    const name = CONTAINERS[index] ?? '';
    await type(host, index + 1, 'run', '-d', '--name', name, '--network', NETWORK, 'busybox', 'sleep', '600');
  }
  const facts = await Promise.all(hosts.map((host, index) => readHost(host, CONTAINERS[index] ?? '')));
  const [one, two] = facts as [HostFacts, HostFacts];
  say(`${CONTAINERS[0]} and ${CONTAINERS[1]} ping each other, ${PINGS} times`);
  const pings = await Promise.all([
    ping(host1, one.container, two.container),
    ping(host2, two.container, one.container),
  ]);
  const keys = (await etcd.keys()).length;
  say('this is what the two kernels hold now:');
  process.stdout.write(`\n${drawDemo({ network: NETWORK, one, two, pings, keys }, paint).join('\n')}\n\n`);
  const lost = pings.filter(({ received }) => received < PINGS);
  if (lost.length > 0)
    throw new Error(lost.map(each => `${each.from} → ${each.to}: packets were lost`).join('; '));
  say('removing everything');
}

async function ping(host: DockerHost, from: ContainerFacts, to: ContainerFacts): Promise<PingFacts> {
  const target = to.address.split('/')[0] ?? '';
  const pid = await host.docker('inspect', '--format', '{{.State.Pid}}', from.name);
  const argv = ['ping', '-n', '-c', String(PINGS), '-i', '0.05', '-W', '2', target];
  const { stdout } = await host.run(argv, { netns: `/proc/${pid}/ns/net` });
  const [, received = '0'] = /(\d+) received/.exec(stdout) ?? [];
  const [, least = '', mean = '', most = ''] = /= ([\d.]+)\/([\d.]+)\/([\d.]+)/.exec(stdout) ?? [];
  return { from: from.name, to: to.name, sent: PINGS, received: Number(received), least, mean, most };
}

function fail(lines: readonly string[]): never {
  for (const line of lines) process.stderr.write(`demo: ${line}\n`);
  process.exit(1);
}

const lacking = await missing(
  ['ip', 'bridge', 'nsenter', 'unshare', 'ping', 'etcd', 'containerd', 'dockerd', 'docker', 'iptables'],
  { busybox: true },
);
if (lacking.length > 0) fail(lacking);
// The lab goes with this process, however it ends: test/support/guardian.ts
await demo().catch(error => fail([error instanceof Error ? error.message : String(error)]));
say('done, nothing is left', 'green');
process.exit(0);
