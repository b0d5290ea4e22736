import type { StatusJson } from '../client.js';
import { command } from '../command.js';
import { showDuration } from '../duration.js';
import type { Cell } from '../output.js';

const since = (time: string) => showDuration(Date.now() - Date.parse(time));

const drained = ({ draining_since: at }: Pick<StatusJson, 'draining_since'>) =>
  at ? `, drained since ${since(at)}` : '';

function hostsCell({ hosts }: Pick<StatusJson, 'hosts'>): Cell {
  const living = `${hosts.living} living`;
  if (hosts.others.length === 0) return living;
  const others = hosts.others.map(({ hostname, state, gone_since: at }) =>
    at ? `${hostname} ${state} for ${since(at)}` : `${hostname} ${state}`,
  );
  return [`${living}, ${others.join(', ')}`, 'red'];
}

function rowsOf({ hostname, version, started_at, ...status }: StatusJson): [title: string, facts: Cell][] {
  const { vtep, underlay, etcd, networks, local, reconcile, name } = status;
  const answers: Cell = etcd.answering
    ? `${etcd.where} answers, revision ${etcd.revision}`
    : [`${etcd.where} does not answer; last revision seen: ${etcd.revision}`, 'red'];
  const { last_at, repairs, pending_teardowns } = reconcile;
  return [
    ['Host', `${hostname}, agent ${version}, up ${since(started_at)}${drained(status)}`],
    ...(name.reason ? [['Refuses', [name.reason, 'red']] satisfies [string, Cell]] : []),
    [
      'VTEP',
      underlay ? `${vtep} on ${underlay.interface}, MTU ${underlay.mtu}` : [`${vtep} on no interface`, 'red'],
    ],
    ['etcd', answers],
    ['Networks', `${networks} in the cluster, ${local.networks} on this host`],
    ['Hosts', hostsCell(status)],
    ['Endpoints', `${local.endpoints} on this host, ${local.active_endpoints} active`],
    [
      'Reconcile',
      `${last_at ? `${since(last_at)} ago` : 'not yet'}, repairs: ${repairs}, pending teardowns: ${pending_teardowns}`,
    ],
  ];
}

export const status = command({
  name: 'status',
  summary: "Show the agent's host: VTEP, etcd, networks, endpoints, last reconcile",
  flags: {},
  example: ['--api-url unix:///run/sand/api.sock status', 'of this host, over the socket'],
  async run({ client, output }) {
    const value = await client.status();
    const rows = rowsOf(value);
    await output.show({
      value,
      lines: output.columns(rows.map(([title, facts]) => [`${title}:`, facts])),
      table: { head: ['WHAT', 'STATE'], rows },
    });
  },
});
