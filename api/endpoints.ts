/** /endpoints */
import type { Engine } from '../engine/engine.js';
import { parseHostAddress, parseRange } from '../ipam/range.js';
import { InvalidError } from '../model/errors.js';
import { parseWith } from '../model/parse.js';
import { addressOf, type NetnsPath, parseEndpointId } from '../model/scalars.js';
import { answer, answerNothing } from './answer.js';
import { newRoutes, queryOf, type Routes } from './routes.js';
import { EndpointCreate, EndpointQuery, NoQuery } from './schemas.js';

export function endpointRoutes(engine: Engine): Routes {
  const router = newRoutes();
  const { networks, netnsEndpoints } = engine;

  router.get('/', async (request, response) => {
    const { network_id: networkId, hostname } = parseWith(EndpointQuery, queryOf(request));
    await engine.ready();
    answer(response, { endpoints: await netnsEndpoints.list({ networkId, hostname }) });
  });

  router.post('/', async (request, response) => {
    const wish = parseWith(EndpointCreate, request.body);
    const netns = wish.activate ? requireNetns(wish.activate_params?.ns_handle_path) : undefined;
    await engine.ready();
    const { record } = await networks.get(wish.network_id);
    const { ipv4_address: given, mac_address: mac } = wish;
    const address =
      given === undefined
        ? undefined
        : addressOf(parseHostAddress(parseRange(record.ip_range), given, 'ipv4_address'));
    const endpoint = await netnsEndpoints.create({ networkId: record.id, netns, address, mac });
    answer(response, { endpoint }, 201);
  });

  router.delete('/:id', async (request, response) => {
    parseWith(NoQuery, queryOf(request));
    const id = parseEndpointId(request.params.id, 'id');
    await engine.ready();
    await netnsEndpoints.remove(id);
    answerNothing(response);
  });

  return router;
}

function requireNetns(path: NetnsPath | undefined): NetnsPath {
  if (path !== undefined) return path;
  throw new InvalidError(
    'activate_params.ns_handle_path is missing; with activate it must be a network namespace, such as /var/run/netns/…',
    { field: 'activate_params.ns_handle_path' },
  );
}
