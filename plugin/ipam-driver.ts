/** Docker's IpamDriver.* calls. A PoolID is the id of the SAND network that the pool belongs to. */
import type { Engine } from '../engine/engine.js';
import { DEFAULT_RANGE } from '../engine/networks.js';
import { parseRange, withPrefix } from '../ipam/range.js';
import { ConflictError, InvalidError } from '../model/errors.js';
import { parseWith } from '../model/parse.js';
import type { Network } from '../model/records.js';
import {
  addressOf,
  type Cidr,
  isNetworkId,
  type NetworkId,
  newNetworkId,
  parseIpv4,
  parseNetworkId,
} from '../model/scalars.js';
import { type AnonymousPools, auxAddress, chooseGateway } from './anonymous-pools.js';
import type { Bindings } from './bindings.js';
import { parseIpamOptions, type Reference } from './options.js';
import { PoolOnly, ReleaseAddress, RequestAddress, RequestPool } from './protocol.js';
import type { Methods, Outcome } from './server.js';

const ADDRESS_TYPE = 'RequestAddressType';
const GATEWAY = 'com.docker.network.gateway';
const DONE: Outcome = { answer: {} };

export interface DriverDependencies {
  readonly engine: Engine;
  readonly bindings: Bindings;
  readonly anonymous: AnonymousPools;
}

export const ipamDriver = (deps: DriverDependencies): Methods => ({
  'IpamDriver.RequestPool': body => requestPool(deps, body),
  'IpamDriver.ReleasePool': body => releasePool(deps, body),
  'IpamDriver.RequestAddress': body => requestAddress(deps, body),
  'IpamDriver.ReleaseAddress': body => releaseAddress(deps, body),
});

async function requestPool(deps: DriverDependencies, body: unknown): Promise<Outcome> {
  const request = parseWith(RequestPool, body);
  if (request.V6) throw new InvalidError('IPv6 is not supported yet; leave out --ipv6', { field: 'V6' });
  if (request.SubPool !== '') {
    throw new InvalidError(
      '--ip-range is not supported: SAND hands out addresses for the whole cluster; leave it out',
      {
        field: 'SubPool',
      },
    );
  }
  const reference = parseIpamOptions(request.Options);
  const pool = request.Pool === '' ? undefined : parseRange(request.Pool, 'Pool').cidr;
  const { engine, bindings, anonymous } = deps;
  if (reference.kind === 'own') {
    const unfinished = await anonymous.open(pool ?? DEFAULT_RANGE);
    return {
      answer: { PoolID: unfinished.id, Pool: unfinished.range.cidr, Data: {} },
      undo: async () => anonymous.close(unfinished.id),
    };
  }
  await engine.ready();
  const network = await promised(deps, reference, pool);
  const { id, ip_range } = network.record;
  return { answer: { PoolID: id, Pool: ip_range, Data: {} }, undo: () => bindings.withdraw(id) };
}

/** The network that is referred to, promised to this host: a new one in the transaction that makes it. */
async function promised(
  { engine, bindings }: DriverDependencies,
  reference: Exclude<Reference, { kind: 'own' }>,
  range: Cidr | undefined,
): Promise<Network> {
  const { networks } = engine;
  if (reference.kind === 'id') return promise(bindings, await networks.get(reference.id), range);
  const found = await networks.findByName(reference.name);
  if (found) return promise(bindings, found, range);
  const id = newNetworkId();
  const pending = await bindings.pendingWrite(id);
  const mtu = await engine.defaultMtu();
  const wish = { id, range, mtu, origin: 'docker', also: () => [pending] } as const;
  const network = await networks.ensureNamed(reference.name, wish);
  // Otherwise another host made it at the same moment, and without our promise.
  return network.record.id === id ? network : promise(bindings, network, range);
}

async function promise(bindings: Bindings, network: Network, range: Cidr | undefined): Promise<Network> {
  const { id, ip_range } = network.record;
  if (range !== undefined && range !== ip_range) {
    throw new ConflictError(
      `Network ${id} has the range ${ip_range}, not ${range}; leave out --subnet or give ${ip_range}`,
      {
        network_id: id,
      },
    );
  }
  await bindings.promise(network);
  return network;
}

async function releasePool(
  { engine, bindings, anonymous }: DriverDependencies,
  body: unknown,
): Promise<Outcome> {
  const { PoolID } = parseWith(PoolOnly, body);
  anonymous.close(PoolID);
  if (!isNetworkId(PoolID)) return DONE;
  // What an agent bound that was killed a moment ago is known with the first snapshot. Docker asks once.
  if (engine.mirror.revision === 0) await engine.ready().catch(() => undefined);
  await bindings.poolReturned(PoolID);
  return DONE;
}

async function requestAddress(deps: DriverDependencies, body: unknown): Promise<Outcome> {
  const { PoolID, Address, Options } = parseWith(RequestAddress, body);
  const { engine, anonymous } = deps;
  const isGateway = Options[ADDRESS_TYPE] === GATEWAY;
  const unfinished = anonymous.find(PoolID);
  if (unfinished) {
    const address = isGateway
      ? chooseGateway(unfinished, Address)
      : withPrefix(unfinished.range, auxAddress(unfinished, Address));
    return { answer: { Address: address, Data: {} } };
  }
  const id = parseNetworkId(PoolID, 'PoolID');
  await engine.ready();
  const network = await engine.networks.get(id);
  if (isGateway) return { answer: { Address: await requestGateway(deps, network, Address), Data: {} } };
  return reserve(deps, network, Address);
}

/** The gateway belongs to the network: asking for it always succeeds, with the one there is. */
async function requestGateway({ engine, bindings }: DriverDependencies, network: Network, asked: string) {
  const { id, gateway } = network.record;
  if (asked === '' || parseIpv4(asked, 'Address') === addressOf(gateway)) return gateway;
  const pending = bindings.pendingOf(id);
  const range = parseRange(network.record.ip_range);
  const wanted = withPrefix(range, parseIpv4(asked, 'Address'));
  const fresh = pending && network.attributes?.origin === 'docker' && engine.mirror.bindings(id).length === 1;
  if (!fresh) {
    throw new ConflictError(
      `Network ${id} has the gateway ${addressOf(gateway)}; leave out --gateway or give that`,
      {
        network_id: id,
      },
    );
  }
  await engine.networks.reshape(network, { gateway: wanted }, bindings.keyOf(pending));
  return wanted;
}

async function reserve(deps: DriverDependencies, network: Network, asked: string): Promise<Outcome> {
  const { engine, bindings } = deps;
  const wanted = asked === '' ? 'lowest' : parseIpv4(asked, 'Address');
  try {
    const address = await engine.reservations.reserve(network, wanted);
    return {
      answer: { Address: address, Data: {} },
      undo: () => engine.reservations.release(network.record.id, addressOf(address)),
    };
  } catch (error) {
    // The same --aux-address is given on every host: the first took it for the network.
    const shared =
      error instanceof ConflictError &&
      error.facts['owner'] === 'aux' &&
      bindings.pendingOf(network.record.id);
    if (!shared || wanted === 'lowest') throw error;
    return { answer: { Address: withPrefix(parseRange(network.record.ip_range), wanted), Data: {} } };
  }
}

async function releaseAddress({ engine, anonymous }: DriverDependencies, body: unknown): Promise<Outcome> {
  const { PoolID, Address } = parseWith(ReleaseAddress, body);
  const address = parseIpv4(Address, 'Address');
  if (anonymous.find(PoolID) || !isNetworkId(PoolID)) return DONE;
  const id: NetworkId = PoolID;
  const network = engine.mirror.network(id);
  if (network && addressOf(network.record.gateway) === address) return DONE;
  await engine.reservations.returned(id, address);
  return DONE;
}
