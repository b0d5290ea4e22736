/** Valid requests to both doors, with places for what is known: the structure that the mutations start from. */
import type { Kind } from './known.js';

export type Door = 'plugin' | 'api';

/** One request as it goes out. */
export interface FuzzRequest {
  readonly door: Door;
  readonly method: string;
  readonly path: string;
  /** Undefined: none. */
  readonly body?: string;
}

/** Chooses among what is known, or makes something new. */
export interface Choice {
  known(kind: Kind): string;
  netns(): string;
  fresh(): string;
  number(below: number): number;
}

export interface Template {
  readonly door: Door;
  readonly method: string;
  path(choice: Choice): string;
  /** JSON; undefined: no body. */
  body?(choice: Choice): Record<string, unknown>;
}

const plugin = (method: string, body: Template['body'] & {}): Template => ({
  door: 'plugin',
  method: 'POST',
  path: () => `/${method}`,
  body,
});
const api = (method: string, path: Template['path'], body?: Template['body'] & {}): Template => ({
  door: 'api',
  method,
  path,
  ...(body ? { body } : {}),
});

const endpointOf = (choice: Choice) => ({
  NetworkID: choice.known('dockerNetwork'),
  EndpointID: choice.known('dockerEndpoint'),
});

const DOCKER: readonly Template[] = [
  plugin('Plugin.Activate', () => ({})),
  plugin('NetworkDriver.GetCapabilities', () => ({})),
  plugin('IpamDriver.GetDefaultAddressSpaces', () => ({})),
  plugin('IpamDriver.RequestPool', choice => ({
    AddressSpace: 'sandlocal',
    Pool: choice.number(2) ? '' : `10.${choice.number(200)}.0.0/24`,
    SubPool: '',
    Options: { 'sand-name': `fuzz-${choice.number(12)}` },
    V6: false,
  })),
  plugin('IpamDriver.RequestAddress', choice => ({
    PoolID: choice.known('pool'),
    Address: '',
    Options: choice.number(3) ? null : { RequestAddressType: 'com.docker.network.gateway' },
  })),
  plugin('IpamDriver.ReleaseAddress', choice => ({
    PoolID: choice.known('pool'),
    Address: choice.known('address').split('/')[0],
  })),
  plugin('IpamDriver.ReleasePool', choice => ({ PoolID: choice.known('pool') })),
  plugin('NetworkDriver.CreateNetwork', choice => {
    const name = `fuzz-${choice.number(12)}`;
    return {
      NetworkID: choice.fresh(),
      Options: {
        'com.docker.network.enable_ipv6': false,
        'com.docker.network.generic': { 'sand-name': name, 'sand-egress': 'none' },
        'com.docker.network.internal': choice.number(2) === 0,
      },
      IPv4Data: [
        { AddressSpace: 'sandlocal', Pool: '10.0.0.0/24', Gateway: '10.0.0.1/24', AuxAddresses: {} },
      ],
      IPv6Data: [],
    };
  }),
  plugin('NetworkDriver.CreateEndpoint', choice => ({
    NetworkID: choice.known('dockerNetwork'),
    EndpointID: choice.fresh(),
    Interface: { Address: choice.known('address'), AddressIPv6: '', MacAddress: '' },
    Options: { 'com.docker.network.endpoint.exposedports': [], 'com.docker.network.portmap': [] },
  })),
  plugin('NetworkDriver.EndpointOperInfo', endpointOf),
  plugin('NetworkDriver.Join', choice => ({
    ...endpointOf(choice),
    SandboxKey: '/run/docker/netns/0123456789ab',
    Options: { 'com.docker.network.portmap': [] },
  })),
  plugin('NetworkDriver.ProgramExternalConnectivity', endpointOf),
  plugin('NetworkDriver.Leave', endpointOf),
  plugin('NetworkDriver.DeleteEndpoint', endpointOf),
  plugin('NetworkDriver.DeleteNetwork', choice => ({ NetworkID: choice.known('dockerNetwork') })),
  plugin('NetworkDriver.DiscoverNew', () => ({ DiscoveryType: 1, DiscoveryData: { Address: '10.0.0.1' } })),
  plugin('NetworkDriver.AllocateNetwork', choice => ({
    NetworkID: choice.fresh(),
    Options: {},
    IPv4Data: [],
  })),
];

const API: readonly Template[] = [
  api('GET', () => '/version'),
  api('GET', () => '/status'),
  api('GET', () => '/openapi.json'),
  api('GET', () => '/networks'),
  api('GET', choice => `/networks/${choice.known('network')}`),
  api(
    'POST',
    () => '/networks',
    choice => ({
      name: `fuzz-api-${choice.number(1_000)}`,
      ip_range: `10.${choice.number(250)}.0.0/${16 + choice.number(12)}`,
      mtu: 1_400,
    }),
  ),
  api('DELETE', choice => `/networks/${choice.known('network')}`),
  api('DELETE', choice => `/networks/${encodeURIComponent(choice.known('name'))}?force=true`),
  api('GET', choice => `/endpoints?network_id=${choice.known('network')}`),
  api('GET', () => '/endpoints?hostname=fuzzed'),
  api(
    'POST',
    () => '/endpoints',
    choice => ({
      network_id: choice.known('network'),
      activate: true,
      activate_params: { ns_handle_path: choice.netns(), set_addr: false, move_veth: false },
    }),
  ),
  api(
    'POST',
    () => '/endpoints',
    choice => ({
      network_id: choice.known('network'),
      ipv4_address: choice.known('address').split('/')[0],
      mac_address: '02:00:00:00:00:07',
    }),
  ),
  api('DELETE', choice => `/endpoints/${choice.known('endpoint')}`),
  api('CONNECT', choice => `/networks/${choice.known('network')}?ip=10.0.0.${choice.number(256)}&port=80`),
];

export const TEMPLATES: readonly Template[] = [...DOCKER, ...API];
