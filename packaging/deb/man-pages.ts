/** man pages, made of the tables that the programs themselves read: flags cannot drift from what is documented. */
import type { Command, Flags } from '../../cli/command.js';
import { COMMANDS } from '../../cli/commands/index.js';
import { GLOBAL_FLAGS } from '../../cli/flags.js';
import { SETTINGS, type Setting } from '../../daemon/settings.js';

/** Text as roff wants it: no line is taken for a request, no dash for a hyphen. */
export const roff = (text: string) =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/gm, '\\&$1');

const bold = (text: string) => `\\fB${roff(text)}\\fR`;
const section = (title: string, ...lines: readonly string[]) => [`.SH "${title}"`, ...lines];
const item = (head: string, text: string) => ['.TP', head, roff(text)];

const header = (name: string, chapter: number, version: string, what: string) => [
  `.TH "${name.toUpperCase()}" "${chapter}" "" "SAND ${roff(version)}" "SAND"`,
  ...section('NAME', `${roff(name)} \\- ${roff(what)}`),
];

function settingItem({ flag, env, help, fallback }: Setting<unknown>): string[] {
  const standard = fallback === undefined || fallback === '' ? '' : `; default: ${fallback}`;
  return item(`${bold(`--${flag}`)} \\fIvalue\\fR, ${env.map(bold).join(', ')}`, `${help}${standard}`);
}

/** sand-agent(8). */
export const agentPage = (version: string): string =>
  [
    ...header('sand-agent', 8, version, 'private networks for containers, across hosts'),
    ...section('SYNOPSIS', `${bold('sand-agent')} [\\fIflags\\fR]`),
    ...section(
      'DESCRIPTION',
      roff(
        'The agent of one host of a SAND cluster: Docker’s network and IPAM driver "sand", and an HTTP API.',
      ),
      roff('A setting is given as a flag, in the environment or in the configuration file, in this order.'),
    ),
    ...section('SETTINGS', ...Object.values<Setting<unknown>>(SETTINGS).flatMap(settingItem)),
    ...item(
      `${bold('--config')} \\fIfile\\fR, ${bold('SAND_CONFIG')}`,
      'JSON file of settings, by the names of the flags',
    ),
    ...item(bold('--print-config'), 'print every setting with its value and source, and end'),
    ...item(`${bold('--help')}, ${bold('--version')}`, 'print what they say, and end'),
    ...section(
      'SIGNALS',
      ...item('HUP', 'reads the TLS files again'),
      ...item('TERM, INT', 'stop; containers keep their networks'),
    ),
    ...section(
      'FILES',
      ...item('/etc/default/sand', 'environment of the service'),
      ...item('/etc/sand/config.json', 'configuration file, when there is one'),
      ...item('/var/lib/sand', 'embedded etcd, journal, identity'),
      ...item('/run/sand/api.sock', 'the API'),
      ...item('/run/docker/plugins/sand.sock', 'the driver, for dockerd'),
    ),
    ...section('EXIT STATUS', roff('0 after a signal, 2 for a broken setting.')),
    ...section('SEE ALSO', `${bold('sand-agent-cli')}(1)`),
    '',
  ].join('\n');

const flagItems = (flags: Flags) =>
  Object.entries(flags).flatMap(([name, { alias, type, describe, required }]) => {
    const names = [...(alias ? [bold(`-${alias}`)] : []), bold(`--${name}`)].join(', ');
    const value = type === 'boolean' ? '' : ' \\fIvalue\\fR';
    return item(`${names}${value}`, required ? `${describe} (required)` : describe);
  });

function commandItems({ name, summary, operand, flags, example: [line, what] }: Command): string[] {
  const word = operand ? ` \\fI${roff(operand.name)}\\fR` : '';
  return [
    `.SS "${roff(name)}${operand ? ` ${roff(operand.name)}` : ''}"`,
    roff(summary),
    ...(operand ? item(word.trim(), operand.describe) : []),
    ...flagItems(flags),
    '.PP',
    `${roff(`Example, ${what}:`)}`,
    '.br',
    `${bold('sand-agent-cli')} ${roff(line)}`,
  ];
}

/** sand-agent-cli(1). */
export const cliPage = (version: string): string =>
  [
    ...header(
      'sand-agent-cli',
      1,
      version,
      'networks and endpoints of a SAND cluster, from the command line',
    ),
    ...section('SYNOPSIS', `${bold('sand-agent-cli')} [\\fIflags\\fR] \\fIcommand\\fR [\\fIflags\\fR]`),
    ...section('FLAGS OF EVERY COMMAND', ...flagItems(GLOBAL_FLAGS)),
    ...section('COMMANDS', ...COMMANDS.flatMap(commandItems)),
    ...section(
      'EXIT STATUS',
      roff('0; 1 when the agent refuses or does not answer; 2 when the line is wrong.'),
    ),
    ...section('SEE ALSO', `${bold('sand-agent')}(8)`),
    '',
  ].join('\n');
