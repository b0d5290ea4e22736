/** Learns ids from the answers: what was made, and what Docker would remember. */
import type { Known } from './known.js';
import type { FuzzRequest } from './templates.js';

export function harvest(known: Known, request: FuzzRequest, text: string): void {
  const answer = parsed(text);
  if (!answer || 'Err' in answer) return;
  if (request.door === 'api') harvestApi(known, answer);
  else harvestPlugin(known, request, answer);
}

function harvestPlugin(known: Known, request: FuzzRequest, answer: Record<string, unknown>): void {
  const body = parsed(request.body ?? '') ?? {};
  const method = request.path.slice(1);
  if (method === 'IpamDriver.RequestPool') known.note('pool', answer['PoolID']);
  if (method === 'IpamDriver.RequestAddress') known.note('address', answer['Address']);
  if (method === 'IpamDriver.ReleaseAddress') known.forget('address', String(body['Address']));
  if (method === 'NetworkDriver.CreateNetwork') known.note('dockerNetwork', body['NetworkID']);
  if (method === 'NetworkDriver.CreateEndpoint') known.note('dockerEndpoint', body['EndpointID']);
}

function harvestApi(known: Known, { network, endpoint, networks }: Record<string, unknown>): void {
  for (const each of [network, ...(Array.isArray(networks) ? networks : [])]) {
    const { id, name } = (each ?? {}) as { id?: unknown; name?: unknown };
    known.note('network', id);
    known.note('name', name);
  }
  const { id, target_veth_ip } = (endpoint ?? {}) as { id?: unknown; target_veth_ip?: unknown };
  known.note('endpoint', id);
  known.note('address', target_veth_ip);
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
