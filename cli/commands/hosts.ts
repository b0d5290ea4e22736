import type { HostJson } from '../client.js';
import { command, type Operand } from '../command.js';
import { showDuration } from '../duration.js';
import type { Cell, Table } from '../output.js';

const name = {
  name: 'host',
  required: true,
  describe: 'Name of the host in the cluster',
  complete: 'registered-hosts',
} as const satisfies Operand;

const COLOUR = { living: 'green', gone: 'red', removed: 'red', unknown: 'yellow' } as const;

const since = (time: string) => showDuration(Date.now() - Date.parse(time));

function stateText({ state, gone_since, draining_since }: HostJson): string {
  const gone = gone_since ? ` for ${since(gone_since)}` : '';
  return `${state}${gone}${draining_since ? ', drained' : ''}`;
}

const hostLine = (host: HostJson) =>
  `[${host.hostname}] ${stateText(host)} VTEP: ${host.vtep ?? '?'} endpoints: ${host.endpoints}`;

const hostTable = (hosts: readonly HostJson[]): Table => ({
  head: ['HOST', 'STATE', 'VTEP', 'ENDPOINTS', 'VERSION', 'IDENTITY'],
  rows: hosts.map(host => [
    host.hostname,
    [stateText(host), COLOUR[host.state]] satisfies Cell,
    host.vtep ?? '',
    `${host.endpoints}`,
    host.version,
    host.identity ?? '',
  ]),
});

export const hostList = command({
  name: 'host-list',
  summary: 'List the hosts of the cluster, and whether they live',
  flags: {},
  example: ['host-list --output table', 'as a table'],
  async run({ client, output }) {
    const value = await client.hosts();
    const lines = ['List of hosts:', ...value.map(host => `* ${hostLine(host)}`)];
    await output.show({ value, lines, table: hostTable(value) });
  },
});

export const hostDrain = command({
  name: 'host-drain',
  summary: 'Keep new endpoints away from a host',
  operand: name,
  flags: { off: { type: 'boolean', describe: 'Let them come again' } },
  example: ['host-drain ant', 'before ant is taken down'],
  async run({ args, operand, client, output }) {
    const value = await client.drainHost(operand, args.off ? 'off' : 'on');
    const text = args.off ? 'takes endpoints again' : `is drained; ${value.endpoints} endpoints stay`;
    await output.show({ value, lines: [`Host ${operand} ${text}`], table: hostTable([value]) });
  },
});

export const hostRemove = command({
  name: 'host-remove',
  summary: 'Declare a host gone: its endpoints are no neighbours any more',
  operand: name,
  flags: {
    gone: { type: 'boolean', describe: 'Its machine is off: delete its endpoints, return their addresses' },
  },
  example: ['host-remove ant --gone', 'when the machine of ant will never come back'],
  async run({ args, operand, client, output }) {
    if (args.gone) {
      const value = await client.removeHostForGood(operand);
      const { endpoints, reservations, bindings } = value;
      const line = `Host ${operand} is removed: ${endpoints} endpoints, ${reservations} reservations, ${bindings} Docker networks`;
      const head = ['HOST', 'ENDPOINTS', 'RESERVATIONS', 'DOCKER NETWORKS'];
      const row = [operand, `${endpoints}`, `${reservations}`, `${bindings}`];
      return output.show({ value, lines: [line], table: { head, rows: [row] } });
    }
    const value = await client.removeHost(operand);
    const line = `Host ${operand} is declared gone; its ${value.endpoints} endpoints keep their addresses`;
    await output.show({ value, lines: [line], table: hostTable([value]) });
  },
});
