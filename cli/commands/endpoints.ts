import { anyNetwork, command, network, UsageError } from '../command.js';
import { endpointLine, endpointTable, goneTable } from '../shown.js';

export const endpointCreate = command({
  name: 'endpoint-create',
  summary: "Join a network namespace of the agent's host to a network",
  flags: {
    network,
    ns: {
      type: 'string',
      describe: 'Path of the network namespace, such as /var/run/netns/shop',
      complete: 'files',
    },
    ip: { type: 'string', describe: 'Address inside the network; default: the lowest free one' },
    mac: { type: 'string', describe: 'Default: 02:84 and the address' },
    passive: { type: 'boolean', describe: 'An address without an interface, instead of --ns' },
  },
  example: ['endpoint-create -n shop --ns /var/run/netns/shop', 'the namespace gets sand0'],
  async run({ args, client, output }) {
    if (args.ns === undefined && !args.passive) {
      throw new UsageError(
        '--ns is missing; give the path of a network namespace, or --passive for an address alone',
      );
    }
    if (args.ns !== undefined && args.passive) throw new UsageError('--ns and --passive exclude each other');
    const { ns: netns, ip: ipv4_address, mac: mac_address } = args;
    const value = await client.createEndpoint({ network: args.network, netns, ipv4_address, mac_address });
    await output.show({
      value,
      lines: ['New endpoint created:', endpointLine(value, output)],
      table: endpointTable([value]),
    });
  },
});

export const endpointList = command({
  name: 'endpoint-list',
  summary: 'List the endpoints of the cluster',
  flags: {
    network: { ...anyNetwork, describe: 'Only of this network, name or id' },
    hostname: { type: 'string', describe: 'Only of this host; all: of every host', complete: 'hosts' },
  },
  example: ['endpoint-list -n shop', 'of one network, on all hosts'],
  async run({ args, client, output }) {
    const hostname = args.hostname === 'all' ? undefined : args.hostname;
    const value = await client.endpoints({ network: args.network, hostname });
    await output.show({
      value,
      lines: ['List of endpoints:', ...value.map(each => endpointLine(each, output))],
      table: endpointTable(value),
    });
  },
});

export const endpointDelete = command({
  name: 'endpoint-delete',
  summary: "Delete an endpoint of the agent's host",
  flags: {
    endpoint: {
      type: 'string',
      alias: 'e',
      required: true,
      describe: 'Id of the endpoint',
      complete: 'endpoints',
    },
  },
  example: ['endpoint-delete -e 6ffc3990-b212-47f2-a5d1-2afe7526e548', 'its interface and its address go'],
  async run({ args: { endpoint }, client, output }) {
    await client.removeEndpoint(endpoint);
    await output.show({
      value: { endpoint },
      lines: [`Endpoint '${endpoint}' deleted.`],
      table: goneTable([endpoint]),
    });
  },
});
