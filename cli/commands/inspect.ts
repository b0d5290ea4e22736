import {
  type EndpointJson,
  type HostJson,
  type NetworkJson,
  NotFoundError,
  type SandClient,
} from '../client.js';
import { anyNetwork, command, UsageError } from '../command.js';
import type { Cell, Output } from '../output.js';
import { endpointTable, stateCell } from '../shown.js';

interface HostOfNetwork {
  readonly hostname: string;
  readonly vtep: string;
  /** Undefined where the agent does not say. */
  readonly state: HostJson['state'] | undefined;
  readonly gone_since: string | null;
  readonly endpoints: readonly EndpointJson[];
}

const byText = (a: string, b: string) => a.localeCompare(b, 'en', { numeric: true });

function hostsOf(endpoints: readonly EndpointJson[], known: readonly HostJson[]): HostOfNetwork[] {
  const names = [...new Set(endpoints.map(({ hostname }) => hostname as string))].sort(byText);
  return names.map(name => {
    const own = endpoints.filter(({ hostname }) => hostname === name);
    const sorted = own.sort((a, b) => byText(a.target_veth_ip, b.target_veth_ip));
    const { state, gone_since = null } = known.find(({ hostname }) => hostname === name) ?? {};
    return { hostname: name, vtep: sorted[0]?.host_ip ?? '', state, gone_since, endpoints: sorted };
  });
}

const place = ({ target_veth_name: ifName, target_netns_path: netns }: EndpointJson) =>
  [ifName, netns && `in ${netns}`].filter(Boolean).join(' ');

const endpointRow = (endpoint: EndpointJson): Cell[] => [
  stateCell(endpoint),
  endpoint.target_veth_ip,
  endpoint.target_veth_mac,
  endpoint.id,
  place(endpoint),
];

function lifeOf({ state, gone_since }: Pick<HostOfNetwork, 'state' | 'gone_since'>, output: Output): string {
  if (state !== 'gone' && state !== 'removed') return '';
  return output.paint(` ${state}${gone_since ? ` since ${gone_since}` : ''}`, 'red');
}

/** Agents of the original do not know. */
async function knownHosts(client: SandClient): Promise<HostJson[]> {
  return client.hosts().catch(error => {
    if (error instanceof NotFoundError) return [];
    throw error;
  });
}

/** Under a head, its children with the lines of a tree. */
function branches(
  children: readonly { readonly head: string; readonly below: readonly string[] }[],
): string[] {
  return children.flatMap(({ head, below }, i) => {
    const last = i === children.length - 1;
    return [`${last ? '└─' : '├─'} ${head}`, ...below.map(line => `${last ? '  ' : '│ '} ${line}`)];
  });
}

function treeOf(found: NetworkJson, hosts: readonly HostOfNetwork[], output: Output): string[] {
  const { id, name, vxlan_vni, ip_range, gateway, mtu, dataplane } = found;
  // A bridge is what every agent makes that does not say.
  const plane = dataplane === 'macvlan' ? ', macvlan' : '';
  const head = `${output.paint(name, 'bold')} [${id}] VNI ${vxlan_vni}, ${ip_range}, gateway ${gateway}, MTU ${mtu}${plane}`;
  const leaf = (text: string) => ({ head: text, below: [] });
  const children = hosts.map(({ hostname, vtep, endpoints, ...host }) => ({
    head: `${output.paint(hostname, 'bold')} VTEP ${vtep}${lifeOf(host, output)}`,
    below: branches(output.columns(endpoints.map(endpointRow)).map(leaf)),
  }));
  return [head, ...branches(children.length > 0 ? children : [leaf('no endpoints')])];
}

export const networkInspect = command({
  name: 'network-inspect',
  summary: 'Show a whole network on all hosts, as a tree',
  operand: { name: 'name', describe: anyNetwork.describe, complete: 'networks' },
  flags: { network: anyNetwork },
  example: ['network inspect shop', 'its hosts and their endpoints'],
  async run({ args, operand, client, output }) {
    const name = operand || args.network;
    if (!name)
      throw new UsageError('the network is missing; for example: sand-agent-cli network inspect shop');
    const found = await client.network(name);
    const hosts = hostsOf(await client.endpoints({ network: found.id }), await knownHosts(client));
    await output.show({
      value: { network: found, hosts },
      lines: treeOf(found, hosts, output),
      table: endpointTable(hosts.flatMap(({ endpoints }) => endpoints)),
    });
  },
});
