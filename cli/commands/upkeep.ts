import type { DifferenceJson, LeakJson } from '../client.js';
import { command } from '../command.js';
import { showDuration } from '../duration.js';
import type { Table } from '../output.js';

const counted = (n: number, one: string, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

const differenceLine = ({ area, kind, text }: DifferenceJson) => `* [${area}] ${kind}: ${text}`;

const differenceTable = (found: readonly DifferenceJson[]): Table => ({
  head: ['AREA', 'KIND', 'WHAT IS SO', 'NETWORK'],
  rows: found.map(({ area, kind, text, network_id }) => [area, kind, text, network_id ?? '']),
});

export const verify = command({
  name: 'verify',
  summary: "Compare etcd's records and the agent's host with what should be; changes nothing",
  flags: {},
  example: ['verify', 'exit status 1 when anything differs'],
  async run({ client, output }) {
    const value = await client.verify();
    const lines = value.length === 0 ? ['Nothing differs'] : value.map(differenceLine);
    await output.show({ value, lines, table: differenceTable(value) });
    if (value.length > 0)
      throw new Error(`${counted(value.length, 'difference')}; docs/verify.md explains each`);
  },
});

export const repair = command({
  name: 'repair',
  summary: "Mend what differs on the agent's host, now",
  flags: {},
  example: ['repair', 'exit status 1 when something is left'],
  async run({ client, output }) {
    const value = await client.repair();
    const { done, left } = value;
    const lines = [
      ...done.map(text => `* mended: ${text}`),
      ...left.map(found => `* left: ${differenceLine(found).slice(2)}`),
    ];
    await output.show({
      value,
      lines: lines.length === 0 ? ['Nothing differs'] : lines,
      table: {
        head: ['STATE', 'WHAT'],
        rows: [...done.map(text => ['mended', text]), ...left.map(({ text }) => ['left', text])],
      },
    });
    if (left.length > 0)
      throw new Error(`${counted(left.length, 'difference')} left; docs/verify.md says what to do`);
  },
});

const age = (since: string | null) =>
  since ? `${showDuration(Date.now() - Date.parse(since))} ago` : 'at an unknown time';
const stateText = ({ state, because }: LeakJson) => (because === null ? state : `${state}: ${because}`);

export const gc = command({
  name: 'gc',
  summary: 'Return addresses that are taken for nobody',
  flags: { 'dry-run': { type: 'boolean', describe: 'Only show them' } },
  example: ['gc --dry-run', 'what gc would return'],
  async run({ args, client, output }) {
    const value = await (args['dry-run'] ? client.leaks() : client.collectLeaks());
    const line = (leak: LeakJson) =>
      `* ${leak.address} of network ${leak.network_id}: ${leak.text}, taken ${age(leak.since)}; ${stateText(leak)}`;
    await output.show({
      value,
      lines: value.length === 0 ? ['No address is taken for nobody'] : value.map(line),
      table: {
        head: ['ADDRESS', 'NETWORK', 'WHY', 'TAKEN', 'STATE'],
        rows: value.map(leak => [leak.address, leak.network_id, leak.text, age(leak.since), stateText(leak)]),
      },
    });
  },
});
