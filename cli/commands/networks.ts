import { DATA_PLANES } from '../../model/data-plane.js';
import type { NetworkJson, SandClient } from '../client.js';
import { ConflictError, NotFoundError } from '../client.js';
import { command, network } from '../command.js';
import { goneTable, networkLine, networkTable, newNetworkLine } from '../shown.js';

export const networkCreate = command({
  name: 'network-create',
  summary: 'Make a network',
  flags: {
    name: { type: 'string', describe: 'Default: net-sc- and the id' },
    'ip-range': { type: 'string', describe: 'Default: 10.0.0.0/24' },
    gateway: { type: 'string', describe: 'Default: the first address of the range' },
    mtu: { type: 'number', describe: 'Default: what the underlay carries' },
    dataplane: {
      type: 'string',
      describe: `${DATA_PLANES.join(' or ')}; default: the agent's`,
      complete: DATA_PLANES,
    },
    id: { type: 'string', describe: 'A UUID; default: a new one' },
    vni: { type: 'number', describe: 'VXLAN id; default: the lowest free one' },
  },
  example: ['network-create --name shop --ip-range 10.1.0.0/24', 'a network named shop'],
  async run({ args, client, output }) {
    const { name, 'ip-range': ip_range, gateway, mtu, dataplane, id, vni: vxlan_vni } = args;
    const made = await client.createNetwork({ id, name, ip_range, gateway, mtu, dataplane, vxlan_vni });
    await output.show({
      value: made,
      lines: ['New network created:', newNetworkLine(made)],
      table: networkTable([made]),
    });
  },
});

export const networkShow = command({
  name: 'network-show',
  summary: 'Show a network',
  flags: { network },
  example: ['network-show -n shop', 'its id, name and VNI'],
  async run({ args, client, output }) {
    const value = await client.network(args.network);
    await output.show({ value, lines: [networkLine(value)], table: networkTable([value]) });
  },
});

export const networkList = command({
  name: 'network-list',
  summary: 'List the networks of the cluster',
  flags: {},
  example: ['network-list --json', 'as JSON'],
  async run({ client, output }) {
    const value = await client.networks();
    const lines = ['List of networks:', ...value.map(each => `* ${networkLine(each)}`)];
    await output.show({
      value,
      lines: value.length > 0 ? lines : ['No existing network'],
      table: networkTable(value),
    });
  },
});

export const networkDelete = command({
  name: 'network-delete',
  summary: 'Delete a network',
  flags: {
    network,
    recursive: { type: 'boolean', alias: 'r', describe: 'Delete its endpoints first, one by one' },
    force: { type: 'boolean', describe: "Let the agent remove its host's endpoints first" },
  },
  example: ['network-delete -n shop --recursive', 'with all of its endpoints'],
  async run({ args, client, output }) {
    const found = await client.network(args.network);
    const endpoints: string[] = [];
    for (const id of args.recursive ? await deletable(client, found) : []) {
      await client.removeEndpoint(id).catch(ignoreGone);
      endpoints.push(id);
      output.progress(`Endpoint '${id}' deleted.`);
    }
    await client.removeNetwork(found.id, { force: args.force });
    await output.show({
      value: { network: found.id, endpoints },
      lines: [`Network ${found.id} has been deleted`],
      table: goneTable(endpoints, found.id),
    });
  },
});

/** Somebody else was faster. */
function ignoreGone(error: unknown): void {
  if (!(error instanceof NotFoundError)) throw error;
}

/** The network's endpoints. @throws ConflictError when some are of other hosts: better no step than half of them */
async function deletable(client: SandClient, { id, name }: NetworkJson): Promise<string[]> {
  const endpoints = await client.endpoints({ network: id });
  const here = await hostnameOf(client);
  const others = [...new Set(endpoints.map(({ hostname }) => hostname))].filter(host => host !== here);
  if (here !== undefined && others.length > 0) {
    throw new ConflictError(
      `Network ${name} has endpoints on ${others.join(', ')}, and an agent deletes only its own host's; delete them there first`,
    );
  }
  return endpoints.map(endpoint => endpoint.id);
}

/** Agents of the original do not say. */
async function hostnameOf(client: SandClient): Promise<string | undefined> {
  try {
    return (await client.status()).hostname;
  } catch (error) {
    ignoreGone(error);
    return undefined;
  }
}
