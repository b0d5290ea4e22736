/** Docker's NetworkDriver.* calls. Creation of networks, which has many forms, is in create-network.ts. */
import { endpointIdOf } from '../engine/host.js';
import { ConflictError, InvalidError } from '../model/errors.js';
import { parseWith } from '../model/parse.js';
import type { AddressSource, BindingRecord } from '../model/records.js';
import {
  addressOf,
  type IpAddress,
  parseInterfaceAddress,
  parseIpv4,
  parseMacAddress,
  parseNetnsPath,
} from '../model/scalars.js';
import { createNetwork } from './create-network.js';
import type { DriverDependencies } from './ipam-driver.js';
import { parseEndpointOptions } from './options.js';
import { CreateEndpoint, EndpointOnly, Join, NetworkOnly } from './protocol.js';
import type { Methods, Outcome } from './server.js';

const DONE: Outcome = { answer: {} };

export const networkDriver = (deps: DriverDependencies): Methods => ({
  'NetworkDriver.CreateNetwork': body => createNetwork(deps, body),
  'NetworkDriver.DeleteNetwork': body => deleteNetwork(deps, body),
  'NetworkDriver.CreateEndpoint': body => createEndpoint(deps, body),
  'NetworkDriver.DeleteEndpoint': body => deleteEndpoint(deps, body),
  'NetworkDriver.Join': body => join(deps, body),
  'NetworkDriver.Leave': body => leave(deps, body),
  'NetworkDriver.EndpointOperInfo': body => operInfo(body),
  // Outside access and published ports are Docker's gateway bridge's: docs/decisions/0006.
  'NetworkDriver.ProgramExternalConnectivity': body => endpointOnly(body),
  'NetworkDriver.RevokeExternalConnectivity': body => endpointOnly(body),
  // Sent in swarm mode to say which nodes there are: ours are in etcd.
  'NetworkDriver.DiscoverNew': async () => DONE,
  'NetworkDriver.DiscoverDelete': async () => DONE,
  'NetworkDriver.AllocateNetwork': async () => {
    throw new InvalidError('SAND networks have local scope; leave out --scope swarm', { field: 'Scope' });
  },
  'NetworkDriver.FreeNetwork': async () => DONE,
});

async function endpointOnly(body: unknown): Promise<Outcome> {
  parseWith(EndpointOnly, body);
  return DONE;
}

async function operInfo(body: unknown): Promise<Outcome> {
  parseWith(EndpointOnly, body);
  return { answer: { Value: {} } };
}

async function deleteNetwork({ bindings }: DriverDependencies, body: unknown): Promise<Outcome> {
  const { NetworkID } = parseWith(NetworkOnly, body);
  await bindings.inTurn(NetworkID, () => bindings.unbind(NetworkID));
  return DONE;
}

async function createEndpoint(deps: DriverDependencies, body: unknown): Promise<Outcome> {
  const { NetworkID, EndpointID, Interface, Options } = parseWith(CreateEndpoint, body);
  const { engine, bindings } = deps;
  if (Interface.AddressIPv6 !== '') {
    throw new InvalidError('IPv6 is not supported yet; leave out --ip6', { field: 'Interface.AddressIPv6' });
  }
  const { published } = parseEndpointOptions(Options);
  const mac =
    Interface.MacAddress === '' ? undefined : parseMacAddress(Interface.MacAddress, 'Interface.MacAddress');
  await engine.ready();
  const binding = await bindings.get(NetworkID);
  if (published && binding.egress === 'none') {
    throw new InvalidError(
      '-p cannot publish ports: the network was made with sand-egress=none; leave out -p',
      {
        field: 'com.docker.network.portmap',
      },
    );
  }
  const address = addressGiven(binding, Interface.Address);
  const create = (source: AddressSource) =>
    engine.dockerEndpoints.create({
      id: endpointIdOf(EndpointID),
      networkId: binding.network_id,
      address,
      mac,
      purpose: { kind: 'docker', endpointId: EndpointID, networkId: NetworkID, source },
    });
  const record = await create(binding.ipam).catch(async error => {
    if (!binding.inherited || !address || !isUnreserved(error)) throw withAdvice(binding.ipam, error);
    const source = await engine.reservations.adopt(binding.network_id, address);
    return create(source).catch(failed => {
      throw withAdvice(source, failed);
    });
  });
  const answer = {
    ...(Interface.Address === '' ? { Address: record.target_veth_ip } : {}),
    ...(mac === undefined ? { MacAddress: record.target_veth_mac } : {}),
  };
  return { answer: { Interface: answer }, undo: () => engine.dockerEndpoints.remove(EndpointID) };
}

function addressGiven(binding: BindingRecord, text: string): IpAddress | undefined {
  if (text !== '')
    return parseIpv4(addressOf(parseInterfaceAddress(text, 'Interface.Address')), 'Interface.Address');
  if (binding.ipam === 'sand-driver') return undefined;
  throw new InvalidError('Interface.Address is empty; Docker gives one on networks with an IPAM driver', {
    field: 'Interface.Address',
  });
}

const isUnreserved = (error: unknown) => error instanceof ConflictError && error.facts['reserved'] === false;

/** Docker's own IPAM knows no other host: where it runs into one, the way out is ours. */
function withAdvice(source: AddressSource, error: unknown): unknown {
  if (source !== 'docker-ipam' || !(error instanceof ConflictError)) return error;
  return new ConflictError(
    `${error.message}. Docker's own IPAM does not see other hosts: make the network with --ipam-driver sand`,
    { ...error.facts, cause: error },
  );
}

async function deleteEndpoint({ engine }: DriverDependencies, body: unknown): Promise<Outcome> {
  await engine.dockerEndpoints.remove(parseWith(EndpointOnly, body).EndpointID);
  return DONE;
}

async function join(deps: DriverDependencies, body: unknown): Promise<Outcome> {
  const { NetworkID, EndpointID, SandboxKey } = parseWith(Join, body);
  const sandbox = parseNetnsPath(SandboxKey, 'SandboxKey');
  const { engine, bindings } = deps;
  await engine.ready();
  const binding = await bindings.get(NetworkID);
  const SrcName = await engine.dockerEndpoints.join(EndpointID, sandbox);
  const answer = {
    InterfaceName: { SrcName, DstPrefix: 'sand' },
    ...(binding.egress === 'none' && !binding.internal ? { DisableGatewayService: true } : {}),
  };
  return { answer, undo: () => engine.dockerEndpoints.remove(EndpointID) };
}

async function leave({ engine }: DriverDependencies, body: unknown): Promise<Outcome> {
  await engine.dockerEndpoints.leave(parseWith(EndpointOnly, body).EndpointID);
  return DONE;
}
