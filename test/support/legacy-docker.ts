/** The original's Docker plugin: its calls, its keys, its order. */
import type { LegacyAgent } from './legacy-agent.js';
import type { LegacyEndpoint } from './legacy-records.js';

/** What dockerd sends, as far as it is used. */
export interface DockerBody {
  readonly NetworkID: string;
  readonly EndpointID: string;
  readonly SandboxKey: string;
  readonly PoolID: string;
  readonly Address: string;
  readonly Options: Readonly<Record<string, unknown>> | null;
  readonly Interface: { readonly Address: string; readonly MacAddress: string } | null;
}
type Call = (agent: LegacyAgent, body: DockerBody) => Promise<object>;

interface DockerNetwork {
  readonly DockerNetworkID: string;
  readonly SandNetworkID: string;
}
interface DockerEndpoint extends DockerNetwork {
  readonly DockerEndpointID: string;
  readonly SandEndpointID: string;
}

const sandIdOf = (options: unknown): string => {
  const id = (options as Record<string, unknown> | null | undefined)?.['sand-id'];
  if (typeof id !== 'string') throw new Error('sand-id is required');
  return id;
};

async function networkOf(agent: LegacyAgent, docker: string): Promise<string> {
  const bound = await agent.store.get<DockerNetwork>(`/docker-networks/${docker}`);
  if (!bound) throw new Error(`docker network ${docker} not found`);
  return bound.SandNetworkID;
}

async function endpointOf(agent: LegacyAgent, docker: string): Promise<LegacyEndpoint> {
  const bound = await agent.store.get<DockerEndpoint>(`/docker-endpoints/${docker}`);
  const record = (await agent.store.ownEndpoints()).find(({ id }) => id === bound?.SandEndpointID);
  if (!record) throw new Error(`docker endpoint ${docker} not found`);
  return record;
}

export const DOCKER_CALLS: Readonly<Record<string, Call>> = {
  'Plugin.Activate': async () => ({ Implements: ['NetworkDriver', 'IpamDriver'] }),
  'NetworkDriver.GetCapabilities': async () => ({ Scope: 'local', ConnectivityScope: 'global' }),
  'IpamDriver.GetCapabilities': async () => ({ RequiresMACAddress: false, RequiresRequestReplay: false }),
  'IpamDriver.GetDefaultAddressSpaces': async () => ({
    LocalDefaultAddressSpace: 'sandlocal',
    GlobalDefaultAddressSpace: 'sandglobal',
  }),
  'IpamDriver.RequestPool': async (agent, { Options }) => {
    const { id, ip_range } = await agent.store.network(sandIdOf(Options));
    return { PoolID: id, Pool: ip_range, Data: {} };
  },
  'IpamDriver.ReleasePool': async () => ({}),
  'IpamDriver.RequestAddress': async (agent, { PoolID, Address, Options }) => {
    const { gateway } = await agent.store.network(PoolID);
    if (Options?.['RequestAddressType'] === 'com.docker.network.gateway')
      return { Address: gateway, Data: {} };
    return { Address: await agent.store.takeAddress(PoolID, Address || undefined), Data: {} };
  },
  'IpamDriver.ReleaseAddress': async (agent, { PoolID, Address }) => {
    const { gateway } = await agent.store.network(PoolID);
    if (gateway.split('/')[0] !== Address) await agent.store.releaseAddress(PoolID, Address);
    return {};
  },
  'NetworkDriver.CreateNetwork': async (agent, { NetworkID, Options }) => {
    const id = sandIdOf(Options?.['com.docker.network.generic']);
    await agent.store.network(id);
    await agent.store.put(`/docker-networks/${NetworkID}`, { DockerNetworkID: NetworkID, SandNetworkID: id });
    return {};
  },
  'NetworkDriver.DeleteNetwork': async (agent, { NetworkID }) => {
    await agent.store.delete(`/docker-networks/${NetworkID}`);
    return {};
  },
  'NetworkDriver.CreateEndpoint': createEndpoint,
  'NetworkDriver.Join': async (agent, { EndpointID, SandboxKey }) => {
    const record = await endpointOf(agent, EndpointID);
    const active = await agent.activate({ ...record, target_netns_path: SandboxKey }, 'leave');
    return { InterfaceName: { SrcName: active.target_veth_name, DstPrefix: 'sand' } };
  },
  'NetworkDriver.Leave': async (agent, { EndpointID }) => {
    await agent.deactivate(await endpointOf(agent, EndpointID));
    return {};
  },
  'NetworkDriver.DeleteEndpoint': async (agent, { EndpointID }) => {
    await agent.remove(await endpointOf(agent, EndpointID));
    await agent.store.delete(`/docker-endpoints/${EndpointID}`);
    return {};
  },
  'NetworkDriver.EndpointOperInfo': async () => ({ Value: {} }),
};

async function createEndpoint(agent: LegacyAgent, body: DockerBody): Promise<object> {
  const { NetworkID, EndpointID, Interface } = body;
  const network = await networkOf(agent, NetworkID);
  const { Address = '', MacAddress = '' } = Interface ?? {};
  const record = await agent.dockerEndpoint(network, Address, MacAddress);
  await agent.store.put(`/docker-endpoints/${EndpointID}`, {
    DockerNetworkID: NetworkID,
    SandNetworkID: network,
    DockerEndpointID: EndpointID,
    SandEndpointID: record.id,
  });
  return { Interface: MacAddress === '' ? { MacAddress: record.target_veth_mac } : {} };
}
