/** The options of a Docker user that reach a driver. What cannot be honoured is refused, never ignored. */
import { DATA_PLANES, type DataPlane } from '../model/data-plane.js';
import { InvalidError } from '../model/errors.js';
import { type NetworkId, parseNetworkId, parseNetworkName } from '../model/scalars.js';

/** How a Docker network names the SAND network that it stands for. */
export type Reference =
  | { readonly kind: 'id'; readonly id: NetworkId }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'own' };

export interface NetworkOptions {
  readonly reference: Reference;
  readonly egress: 'docker' | 'none';
  readonly internal: boolean;
  readonly mtu: number | undefined;
  readonly dataPlane: DataPlane | undefined;
}

const MTU = 'com.docker.network.driver.mtu';
const DATA_PLANE = 'sand-dataplane';
const DRIVER_OPTIONS = ['sand-id', 'sand-name', 'sand-egress', DATA_PLANE, MTU];
const IPAM_OPTIONS = ['sand-id', 'sand-name'];

const refuse = (field: string, text: string) => new InvalidError(text, { field });

function refuseUnknown(flag: string, given: object, known: readonly string[]): void {
  const unknown = Object.keys(given).find(key => !known.includes(key));
  if (unknown === undefined) return;
  throw refuse(unknown, `${flag} ${unknown} is not known to SAND; it takes ${known.join(', ')}`);
}

function referenceOf(flag: string, options: Readonly<Record<string, string>>): Reference {
  const { 'sand-id': id, 'sand-name': name } = options;
  if (id !== undefined && name !== undefined) {
    throw refuse('sand-name', `${flag} sand-id and ${flag} sand-name are both given; one of them is enough`);
  }
  if (id !== undefined) return { kind: 'id', id: parseNetworkId(id, 'sand-id') };
  if (name !== undefined) return { kind: 'name', name: parseNetworkName(name, 'sand-name') };
  return { kind: 'own' };
}

export function parseIpamOptions(options: Readonly<Record<string, string>>): Reference {
  // The original's command has `--ipam-opt sand`, without a value and without an effect.
  const { sand, ...rest } = options;
  if (sand !== undefined && sand !== '') throw refuse('sand', '--ipam-opt sand takes no value');
  refuseUnknown('--ipam-opt', rest, IPAM_OPTIONS);
  return referenceOf('--ipam-opt', rest);
}

/** Options of CreateNetwork: Docker's own flags beside the map of what the user gave by `--opt`. */
export function parseNetworkOptions(options: Readonly<Record<string, unknown>>): NetworkOptions {
  if (flag(options, 'com.docker.network.enable_ipv6')) {
    throw refuse('enable_ipv6', 'IPv6 is not supported yet; leave out --ipv6');
  }
  if (options['com.docker.network.enable_ipv4'] === false) {
    throw refuse('enable_ipv4', 'A SAND network has IPv4; leave out --ipv4=false');
  }
  const given = parseGeneric(options['com.docker.network.generic']);
  refuseUnknown('--opt', given, DRIVER_OPTIONS);
  const egress = given['sand-egress'] ?? 'docker';
  if (egress !== 'docker' && egress !== 'none') {
    throw refuse('sand-egress', `sand-egress is ${JSON.stringify(egress)}; it must be docker or none`);
  }
  return {
    reference: referenceOf('--opt', given),
    egress,
    internal: flag(options, 'com.docker.network.internal'),
    mtu: given[MTU] === undefined ? undefined : parseMtu(given[MTU]),
    dataPlane: given[DATA_PLANE] === undefined ? undefined : parseDataPlane(given[DATA_PLANE]),
  };
}

function flag(options: Readonly<Record<string, unknown>>, key: string): boolean {
  const value = options[key] ?? false;
  if (typeof value === 'boolean') return value;
  throw refuse(key, `${key} is ${JSON.stringify(value)}; it must be true or false`);
}

function parseGeneric(value: unknown): Readonly<Record<string, string>> {
  if (value === undefined || value === null) return {};
  const wrong = typeof value !== 'object' || Array.isArray(value);
  if (wrong)
    throw refuse('com.docker.network.generic', 'com.docker.network.generic must be an object of strings');
  for (const [key, entry] of Object.entries(value)) {
    if (typeof entry !== 'string')
      throw refuse(key, `--opt ${key} is ${JSON.stringify(entry)}; it must be a string`);
  }
  return value as Readonly<Record<string, string>>;
}

function parseMtu(text: string): number {
  const mtu = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  // 68: the smallest that IPv4 allows (RFC 791).
  if (mtu < 68 || mtu > 65_535)
    throw refuse(MTU, `${MTU} is ${JSON.stringify(text)}; it must be from 68 to 65535`);
  return mtu;
}

function parseDataPlane(text: string): DataPlane {
  const found = DATA_PLANES.find(known => known === text);
  if (found) return found;
  const known = DATA_PLANES.join(' or ');
  throw refuse(DATA_PLANE, `${DATA_PLANE} is ${JSON.stringify(text)}; it must be ${known}`);
}

/** Options of CreateEndpoint: Docker's labels, of which only the port map matters, beside `--driver-opt`. */
export function parseEndpointOptions(options: Readonly<Record<string, unknown>>): {
  readonly published: boolean;
} {
  const unknown = Object.keys(options).find(key => !key.startsWith('com.docker.network.'));
  if (unknown !== undefined) {
    throw refuse(unknown, `--driver-opt ${unknown} is not known to SAND; leave it out`);
  }
  const portmap = options['com.docker.network.portmap'];
  return { published: Array.isArray(portmap) && portmap.length > 0 };
}
