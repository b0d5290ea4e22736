/**
 * NetworkDriver.CreateNetwork: the one call that says which options the user gave, after the IPAM calls that it is
 * not tied to. Three kinds of IPAM (ours, Docker's own, none) times three kinds of reference (id, name, neither).
 */
import type { Engine } from '../engine/engine.js';
import { defaultName } from '../engine/networks.js';
import { parseRange } from '../ipam/range.js';
import { ConflictError, InvalidError } from '../model/errors.js';
import { parseWith } from '../model/parse.js';
import {
  type AddressSource,
  type BindingRecord,
  dataPlaneOf,
  mtuOf,
  type Network,
} from '../model/records.js';
import {
  addressOf,
  type Cidr,
  type InterfaceAddress,
  type IpAddress,
  parseInterfaceAddress,
  parseIpv4,
} from '../model/scalars.js';
import type { DriverDependencies } from './ipam-driver.js';
import type { NetworkOptions } from './options.js';
import { parseNetworkOptions } from './options.js';
import { CreateNetwork, type PoolData } from './protocol.js';
import type { Outcome } from './server.js';

interface Wish {
  readonly dockerNetworkId: string;
  readonly ipam: AddressSource;
  readonly options: NetworkOptions;
  /** Undefined with `--ipam-driver null`, which has neither. */
  readonly range: Cidr | undefined;
  readonly gateway: InterfaceAddress | undefined;
  readonly aux: readonly IpAddress[];
}

export async function createNetwork(deps: DriverDependencies, body: unknown): Promise<Outcome> {
  const { NetworkID, Options, IPv4Data, IPv6Data } = parseWith(CreateNetwork, body);
  const options = parseNetworkOptions(Options);
  if (IPv6Data.length > 0)
    throw new InvalidError('IPv6 is not supported yet; leave out --ipv6', { field: 'IPv6Data' });
  const [pool] = IPv4Data;
  if (!pool || IPv4Data.length > 1) {
    throw new InvalidError(`IPv4Data has ${IPv4Data.length} pools; a SAND network has one IPv4 range`, {
      field: 'IPv4Data',
    });
  }
  const wish = wishOf(NetworkID, options, pool);
  await deps.engine.ready();
  await checkUnderlay(deps.engine, options.mtu);
  await deps.bindings.inTurn(NetworkID, () => createAndBind(deps, wish));
  return { answer: {}, undo: () => deps.bindings.unbind(NetworkID) };
}

async function createAndBind(deps: DriverDependencies, wish: Wish): Promise<void> {
  const { bindings, engine } = deps;
  const { dockerNetworkId: id, options } = wish;
  const bound = engine.mirror.binding(id);
  const network = bound
    ? await again(deps, wish, bound)
    : await networkFor(deps, wish).catch(error => bindings.takeBack(id, error));
  await bindings.bind(id, network, {
    ipam: wish.ipam,
    internal: options.internal,
    egress: options.egress,
    auxAddresses: wish.aux,
  });
  await keepAux(deps, wish, network);
}

/** A call that is repeated means the network that the first one bound. @throws ConflictError: it names another. */
async function again({ engine }: DriverDependencies, wish: Wish, bound: BindingRecord): Promise<Network> {
  const network = await engine.networks.get(bound.network_id);
  const { reference } = wish.options;
  const { id, name } = network.record;
  if (reference.kind === 'own' || [id, name].includes(referenceText(reference))) return network;
  throw new ConflictError(
    `Docker network ${wish.dockerNetworkId} is bound to network ${id} (${name}) already; docker network rm it first`,
    { network_id: id },
  );
}

/** Docker does not call DeleteNetwork after a refusal: what was done is undone here. */
async function keepAux(
  { engine, bindings }: DriverDependencies,
  wish: Wish,
  network: Network,
): Promise<void> {
  try {
    await engine.reservations.keepAux(network, wish.aux);
  } catch (error) {
    await bindings.unbind(wish.dockerNetworkId);
    throw error;
  }
}

function wishOf(dockerNetworkId: string, options: NetworkOptions, pool: PoolData): Wish {
  const ipam = ipamOf(pool.AddressSpace);
  if (ipam === 'sand-driver') {
    return { dockerNetworkId, ipam, options, range: undefined, gateway: undefined, aux: [] };
  }
  const range = parseRange(pool.Pool, 'IPv4Data.Pool');
  const aux = Object.values(pool.AuxAddresses).map(text =>
    parseIpv4(addressOf(parseInterfaceAddress(text, 'IPv4Data.AuxAddresses')), 'IPv4Data.AuxAddresses'),
  );
  const gateway = pool.Gateway === '' ? undefined : parseInterfaceAddress(pool.Gateway, 'IPv4Data.Gateway');
  return { dockerNetworkId, ipam, options, range: range.cidr, gateway, aux };
}

function ipamOf(addressSpace: string): AddressSource {
  if (addressSpace === 'null') return 'sand-driver';
  return addressSpace === 'sandlocal' || addressSpace === 'sandglobal' ? 'sand-ipam' : 'docker-ipam';
}

async function networkFor(deps: DriverDependencies, wish: Wish): Promise<Network> {
  const { reference } = wish.options;
  if (reference.kind === 'own') return ownNetwork(deps, wish);
  const { engine } = deps;
  const network =
    reference.kind === 'id'
      ? await engine.networks.get(reference.id)
      : await named(deps, wish, reference.name);
  checkPool(deps, wish, network);
  return withAttributes(deps, wish, network);
}

async function named(deps: DriverDependencies, wish: Wish, name: string): Promise<Network> {
  const { networks } = deps.engine;
  if (wish.ipam === 'sand-ipam') {
    const found = await networks.findByName(name);
    if (found) return found;
    throw unpaired(deps, wish, undefined);
  }
  const mtu = wish.options.mtu ?? (await deps.engine.defaultMtu());
  return networks.ensureNamed(name, {
    range: wish.range,
    gateway: wish.gateway,
    mtu,
    dataPlane: wish.options.dataPlane,
    origin: 'docker',
    also: bindingOf(deps, wish),
  });
}

/** The binding is part of the transaction that makes the network: nobody sees it unbound. */
const bindingOf =
  ({ bindings }: DriverDependencies, wish: Wish) =>
  ({ id }: Network['record']) =>
    bindings.bindWrites(wish.dockerNetworkId, id, {
      ipam: wish.ipam,
      internal: wish.options.internal,
      egress: wish.options.egress,
      auxAddresses: wish.aux,
    });

async function ownNetwork(deps: DriverDependencies, wish: Wish): Promise<Network> {
  const { engine, anonymous } = deps;
  const unfinished =
    wish.ipam === 'sand-ipam' ? anonymous.match(wish.range ?? '', wish.gateway ?? '') : undefined;
  if (wish.ipam === 'sand-ipam' && !unfinished) throw unpaired(deps, wish, undefined);
  const network = await engine.networks.create({
    id: unfinished?.id,
    range: wish.range,
    gateway: wish.gateway,
    mtu: wish.options.mtu ?? (await engine.defaultMtu()),
    dataPlane: wish.options.dataPlane,
    origin: 'docker',
    also: bindingOf(deps, wish),
  });
  if (unfinished) anonymous.close(unfinished.id);
  return network;
}

/** What Docker was given as pool and gateway has to be the network's. */
function checkPool(deps: DriverDependencies, wish: Wish, network: Network): void {
  if (wish.ipam === 'sand-driver') return;
  const { ip_range, gateway, id } = network.record;
  const { range, gateway: asked } = wish;
  if (wish.ipam === 'sand-ipam') {
    if (!deps.bindings.pendingOf(id) && !deps.engine.mirror.binding(wish.dockerNetworkId)) {
      throw unpaired(deps, wish, network);
    }
    if (range === ip_range && (asked === undefined || asked === gateway)) return;
    throw new ConflictError(
      `Network ${id} has the range ${ip_range} and the gateway ${gateway}, Docker has ${range ?? 'none'} and ${asked ?? 'none'}; try again`,
      { network_id: id },
    );
  }
  if (range === ip_range && (asked === undefined || asked === gateway)) return;
  throw new ConflictError(
    `Docker's own IPAM chose ${range ?? 'nothing'}, but network ${id} has ${ip_range}: type ${command(wish, network)}`,
    { network_id: id },
  );
}

/** One of `--opt` and `--ipam-opt` is missing, or Docker came back too late. */
function unpaired(deps: DriverDependencies, wish: Wish, network: Network | undefined): ConflictError {
  const promised = deps.bindings
    .promised()
    .find(({ record }) => record.ip_range === wish.range && record.gateway === wish.gateway);
  const meant = network ?? promised;
  const missing = wish.options.reference.kind === 'own' ? '--opt' : '--ipam-opt';
  const why = `The pool ${wish.range ?? 'none'} was not requested for this network: ${missing} is missing or the request expired`;
  return new ConflictError(
    `${why}; type ${command(wish, meant)}`,
    meant ? { network_id: meant.record.id } : {},
  );
}

/** The command to type instead; the network's Docker name is never sent to a driver. */
function command(wish: Wish, network: Network | undefined): string {
  const { reference } = wish.options;
  const option =
    reference.kind === 'own' ? ownOption(network) : `sand-${reference.kind}=${referenceText(reference)}`;
  const twice = reference.kind === 'own' && !network ? '' : ` --opt ${option} --ipam-opt ${option}`;
  return `docker network create --driver sand --ipam-driver sand${twice} NAME`;
}

const referenceText = (reference: Exclude<NetworkOptions['reference'], { kind: 'own' }>) =>
  reference.kind === 'id' ? reference.id : reference.name;

/** One that Docker made a moment ago goes with the refused command: its id would lead nowhere. */
function ownOption(network: Network | undefined): string {
  const { id, name } = network?.record ?? {};
  const isNamed = network?.attributes?.origin === 'docker' && name !== defaultName(network.record.id);
  return isNamed ? `sand-name=${name}` : `sand-id=${id ?? 'ID'}`;
}

/** MTU and data plane are what was asked for, or become so while nobody else knows of the network. */
async function withAttributes(
  { engine, bindings }: DriverDependencies,
  wish: Wish,
  network: Network,
): Promise<Network> {
  const [difference] = differencesOf(wish.options, network);
  if (!difference) {
    await checkUnderlay(engine, mtuOf(network));
    return network;
  }
  const { id } = network.record;
  const pending = bindings.pendingOf(id);
  const fresh = network.attributes?.origin === 'docker' && engine.mirror.bindings(id).length === 1;
  if (!pending || !fresh) {
    const { has, option } = difference;
    throw new ConflictError(`Network ${id} has ${has}; leave out ${option} or give that`, { network_id: id });
  }
  const { mtu, dataPlane } = wish.options;
  await engine.networks.reshape(network, { mtu, dataPlane }, bindings.keyOf(pending));
  return network;
}

interface AttributeDifference {
  readonly has: string;
  readonly option: string;
}

function differencesOf({ mtu, dataPlane }: NetworkOptions, network: Network): AttributeDifference[] {
  const [hasMtu, hasPlane] = [mtuOf(network), dataPlaneOf(network)];
  return [
    ...(mtu === undefined || mtu === hasMtu
      ? []
      : [{ has: `MTU ${hasMtu}`, option: 'com.docker.network.driver.mtu' }]),
    ...(dataPlane === undefined || dataPlane === hasPlane
      ? []
      : [{ has: `the data plane ${hasPlane}`, option: 'sand-dataplane' }]),
  ];
}

/** @throws ConflictError: packets of that size would not pass this host's underlay. */
async function checkUnderlay(engine: Engine, mtu: number | undefined): Promise<void> {
  if (mtu === undefined) return;
  const most = await engine.defaultMtu();
  if (mtu <= most) return;
  throw new ConflictError(
    `MTU ${mtu} does not fit this host's underlay, which carries ${most} inside VXLAN; raise the underlay's MTU or use a smaller one`,
    { mtu, most },
  );
}
