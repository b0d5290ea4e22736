/** `CONNECT /networks/{id or name}?ip=&port=` as it stands in the request's first line. Pure. */
import * as z from 'zod';
import { InvalidError } from '../model/errors.js';
import { parseWith } from '../model/parse.js';
import { scalar } from '../model/records.js';
import { type IpAddress, invalid, parseIpv4 } from '../model/scalars.js';

export interface ConnectRequest {
  readonly network: string;
  readonly ip: IpAddress;
  readonly port: number;
}

const ConnectQuery = z.strictObject({
  ip: scalar(value => parseIpv4(given(value, 'ip'), 'ip')),
  port: scalar(value => parsePort(given(value, 'port'))),
});

/** @throws InvalidError that names the field. */
export function parseConnect(url: string): ConnectRequest {
  const [path = '', ...query] = url.split('?');
  const [, segment] = /^\/networks\/([^/]+)$/.exec(path) ?? [];
  const network = segment && decoded(segment);
  if (!network) {
    throw new InvalidError(
      `CONNECT is for /networks/{id}?ip=…&port=…, not for ${JSON.stringify(path.slice(0, 80))}; this is no HTTP proxy`,
      { field: 'path' },
    );
  }
  return { network, ...parseWith(ConnectQuery, parametersOf(query.join('?'))) };
}

export const connectPath = ({ network, ip, port }: ConnectRequest) =>
  `/networks/${encodeURIComponent(network)}?${new URLSearchParams({ ip, port: `${port}` })}`;

function decoded(segment: string): string | undefined {
  try {
    return decodeURIComponent(segment);
  } catch {
    return undefined;
  }
}

/** What is given more than once becomes a list, which no field takes. */
function parametersOf(query: string): Record<string, unknown> {
  const parameters = new URLSearchParams(query);
  const values = [...new Set(parameters.keys())].map(name => {
    const [first, ...more] = parameters.getAll(name);
    return [name, more.length > 0 ? [first, ...more] : first] as const;
  });
  return Object.fromEntries(values);
}

function given(value: unknown, field: string): unknown {
  if (value !== undefined && value !== '') return value;
  throw new InvalidError(`${field} is missing; CONNECT needs ?ip=10.0.0.2&port=80`, { field });
}

function parsePort(value: unknown): number {
  const port = typeof value === 'string' && /^[1-9]\d{0,4}$/.test(value) ? Number(value) : Number.NaN;
  if (port <= 65_535) return port;
  throw invalid('port', value, 'a whole number from 1 to 65535');
}
