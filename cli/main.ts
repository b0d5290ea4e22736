#!/usr/bin/env node
/** sand-agent-cli: operators type it, scripts parse its default lines. Errors go to standard error, exit status 1. */
import { readFileSync } from 'node:fs';
import yargs, { type Argv } from 'yargs';
import { hideBin } from 'yargs/helpers';
import { SandError } from '../model/errors.js';
import { ApiError, type NetworkJson, parseDuration, SandClient } from './client.js';

interface Global {
  readonly apiUrl: string;
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
  readonly caFile: string | undefined;
  readonly timeout: string;
  readonly json: boolean;
}

const clientOf = ({ apiUrl, certFile, keyFile, caFile, timeout }: Global) =>
  new SandClient({
    apiUrl,
    timeoutMs: parseDuration(timeout),
    tls: {
      ...(certFile ? { cert: certFile } : {}),
      ...(keyFile ? { key: keyFile } : {}),
      ...(caFile ? { ca: caFile } : {}),
    },
  });

const print = (...lines: string[]): void => {
  process.stdout.write(`${lines.join('\n')}\n`);
};
const printJson = (value: unknown) => print(JSON.stringify(value, undefined, 2));

const ownVersion = () =>
  `v${JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version}`;

async function showVersion(args: Global): Promise<void> {
  const agent = await clientOf(args).version();
  if (args.json) printJson({ client: ownVersion(), agent });
  else print(`client version: ${ownVersion()}`, `agent version: ${agent}`);
}

interface Create extends Global {
  readonly name: string | undefined;
  readonly ipRange: string | undefined;
  readonly gateway: string | undefined;
  readonly mtu: number | undefined;
}

async function createNetwork(args: Create): Promise<void> {
  const { name, ipRange: ip_range, gateway, mtu } = args;
  const network = await clientOf(args).createNetwork({ name, ip_range, gateway, mtu });
  if (args.json) return printJson(network);
  const { id, type, vxlan_vni } = network;
  print(
    'New network created:',
    `* id=${id} name=${network.name} type=${type} ip-range=${network.ip_range}, vni=${vxlan_vni}`,
  );
}

async function listNetworks(args: Global): Promise<void> {
  const networks = await clientOf(args).networks();
  if (args.json) return printJson(networks);
  if (networks.length === 0) return print('No existing network');
  const line = ({ id, name, vxlan_vni }: NetworkJson) => `* [${id}] ${name} (overlay VNI: ${vxlan_vni})`;
  print('List of networks:', ...networks.map(line));
}

/** One by one: yargs' own reading of the environment would refuse the agent's variables as unknown options. */
const fromEnv = (name: string, describe: string, fallback?: string) => ({
  type: 'string' as const,
  default: process.env[name] || fallback,
  describe: `${describe} [${name}]`,
});

const globals = (argv: Argv): Argv<Global> =>
  argv.options({
    'api-url': fromEnv('SAND_API_URL', 'Agent to talk to', 'http://localhost:9999'),
    'cert-file': fromEnv('SAND_CERT_FILE', 'Client certificate, PEM'),
    'key-file': fromEnv('SAND_KEY_FILE', 'Its key, PEM'),
    'ca-file': fromEnv('SAND_CA_FILE', 'CA of the agent, PEM'),
    timeout: fromEnv('SAND_TIMEOUT', 'Such as 30s or 1m', '30s'),
    json: { type: 'boolean', default: false, describe: 'Print JSON' },
  }) as unknown as Argv<Global>;

const network = (argv: Argv<Global>): Argv<Create> =>
  argv
    .options({
      name: { type: 'string', describe: 'Name of the network' },
      'ip-range': { type: 'string', describe: 'Range such as 10.0.0.0/24, the default' },
      gateway: { type: 'string', describe: 'Address inside the range; default: the first' },
      mtu: { type: 'number', describe: 'Default: what the underlay carries' },
    })
    .example(
      '$0 network-create --name shop --ip-range 10.1.0.0/24',
      'a network named shop',
    ) as unknown as Argv<Create>;

const cli = globals(yargs(hideBin(process.argv)))
  .scriptName('sand-agent-cli')
  .command(
    'version',
    'Show the versions of client and agent',
    argv => argv.example('$0 version', 'of this program and of the agent'),
    showVersion,
  )
  .command('network-create', 'Make a network', network, createNetwork)
  .command(
    'network-list',
    'List the networks',
    argv => argv.example('$0 network-list --json', 'as JSON'),
    listNetworks,
  )
  .demandCommand(1, 'Say what to do, for example: sand-agent-cli network-list')
  .strict()
  .version(false)
  .wrap(110)
  .fail((message, error, argv) => {
    // Commands' own errors are shown without the usage: it would not help.
    if (!error) argv.showHelp('error');
    const text =
      error instanceof SandError || error instanceof ApiError ? error.message : (message ?? String(error));
    process.stderr.write(`sand-agent-cli: ${text}\n`);
    process.exit(1);
  });

await cli.parseAsync();
