/** What a key of the cluster is about, of every family: for whoever looks at all of the truth at once. */
import {
  type EndpointId,
  type HostName,
  type IpAddress,
  isNetworkId,
  type NetworkId,
  parseHostName,
  parseIpAddress,
} from '../model/scalars.js';
import type { Keys } from './keys.js';

export type KeyParts =
  | { readonly family: 'network' | 'attributes' | 'pool'; readonly network: NetworkId }
  | { readonly family: 'endpoint'; readonly network: NetworkId; readonly endpoint: EndpointId }
  | { readonly family: 'node-endpoint'; readonly host: HostName; readonly endpoint: EndpointId }
  | { readonly family: 'binding'; readonly network: NetworkId }
  | { readonly family: 'owner'; readonly network: NetworkId; readonly address: IpAddress }
  | { readonly family: 'spare'; readonly network: NetworkId; readonly host: HostName }
  | { readonly family: 'claim' }
  /** In a family of ours, with a name that no agent gives. */
  | { readonly family: 'misnamed' }
  /** Of no interest here. */
  | { readonly family: 'other' };

type Parse = (rest: readonly string[]) => KeyParts;

const network = (text = ''): NetworkId => {
  if (!isNetworkId(text)) throw new TypeError('no id');
  return text;
};
const endpoint = (text = '') => network(text) as string as EndpointId;

const FAMILIES: ReadonlyMap<string, readonly [parts: number, parse: Parse]> = new Map([
  ['network', [1, ([id]) => ({ family: 'network', network: network(id) })]],
  ['network.attributes', [1, ([id]) => ({ family: 'attributes', network: network(id) })]],
  ['ipalloc', [1, ([id]) => ({ family: 'pool', network: network(id) })]],
  [
    'network-endpoints',
    [2, ([id, member]) => ({ family: 'endpoint', network: network(id), endpoint: endpoint(member) })],
  ],
  [
    'node-endpoints',
    [
      2,
      ([host, member]) => ({
        family: 'node-endpoint',
        host: parseHostName(host),
        endpoint: endpoint(member),
      }),
    ],
  ],
  ['network.bindings', [3, ([id]) => ({ family: 'binding', network: network(id) })]],
  [
    'address-owners',
    [2, ([id, address]) => ({ family: 'owner', network: network(id), address: parseIpAddress(address) })],
  ],
  [
    'address-spares',
    [2, ([id, host]) => ({ family: 'spare', network: network(id), host: parseHostName(host) })],
  ],
  ['vnis', [1, () => ({ family: 'claim' })]],
  ['names', [1, () => ({ family: 'claim' })]],
] satisfies [string, [number, Parse]][]);

export function partsOf(keys: Keys, key: string): KeyParts {
  const [name = '', ...rest] = key.slice(keys.prefix.length + 1).split('/');
  const family = FAMILIES.get(name);
  if (!family) return { family: 'other' };
  const [count, parse] = family;
  try {
    return rest.length === count ? parse(rest) : { family: 'misnamed' };
  } catch {
    return { family: 'misnamed' };
  }
}
