/** Requests that were answered wrongly once, each with what was wrong: they are sent in every run of the tests. */
import type { FuzzRequest } from './templates.js';

export interface Found extends FuzzRequest {
  readonly once: string;
}

const plugin = (method: string, body: object, once: string): Found => ({
  door: 'plugin',
  method: 'POST',
  path: `/${method}`,
  body: JSON.stringify(body),
  once,
});
const api = (path: string, body: object, once: string): Found => ({
  door: 'api',
  method: 'POST',
  path,
  body: JSON.stringify(body),
  once,
});

const UNDEFINED = 'the error spoke of undefined, not of what is missing';

export const CORPUS: readonly Found[] = [
  plugin('NetworkDriver.DeleteEndpoint', { NetworkID: 'f'.repeat(64) }, UNDEFINED),
  plugin(
    'NetworkDriver.Join',
    { EndpointID: 'f'.repeat(64), SandboxKey: '/run/docker/netns/0123456789ab' },
    UNDEFINED,
  ),
  plugin('IpamDriver.ReleasePool', {}, UNDEFINED),
  plugin('IpamDriver.ReleaseAddress', { Address: ['10.0.0.9'] }, UNDEFINED),
  api('/endpoints', { ipv4_address: '10.0.0.9', mac_address: '02:00:00:00:00:07' }, UNDEFINED),
  plugin(
    'IpamDriver.RequestPool',
    { AddressSpace: 'sandlocal', Pool: '10.11.0.0/24', Options: { 'sand-name': 'corpus' } },
    'opens the next one',
  ),
  plugin(
    'NetworkDriver.CreateNetwork',
    {
      NetworkID: 'e'.repeat(64),
      Options: { 'com.docker.network.generic': { 'sand-name': 'corpus' } },
      IPv4Data: [{ AddressSpace: 'sandlocal', Pool: '10.0.0.0/24', AuxAddresses: {} }],
      IPv6Data: [],
    },
    'Docker was said to have the gateway undefined',
  ),
  plugin(
    'NetworkDriver.CreateNetwork',
    {
      NetworkID: 'a/b',
      Options: { 'com.docker.network.generic': { 'sand-name': 'corpus' } },
      IPv4Data: [{ AddressSpace: 'null', Pool: '10.0.0.0/24', AuxAddresses: {} }],
    },
    'bound the network for ever, under a key that no agent reads',
  ),
];
