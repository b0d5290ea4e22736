/** What Docker asks for when it makes an endpoint for a container. */
import type { EndpointWish } from '../../engine/endpoint-record.js';
import { endpointIdOf } from '../../engine/host.js';
import { parseNetworkId } from '../../model/scalars.js';

/** @param name Docker's id of the endpoint */
export const dockerWish = (network: string, name: string): EndpointWish => ({
  id: endpointIdOf(name),
  networkId: parseNetworkId(network),
  address: undefined,
  mac: undefined,
  purpose: { kind: 'docker', endpointId: name, networkId: 'docker-network', source: 'sand-driver' },
});
