/** /networks */
import type { Engine } from '../engine/engine.js';
import { parseWith } from '../model/parse.js';
import type { Cidr, InterfaceAddress } from '../model/scalars.js';
import { answer, answerNothing } from './answer.js';
import { type ApiRequest, type Handler, newRoutes, queryOf, type Routes } from './routes.js';
import { NetworkCreate, NetworkRemoval, NoQuery, networkJson } from './schemas.js';

interface PostedNetwork extends ApiRequest {
  defaultMtu?: Promise<number>;
}

/** Before the body of a POST is read: meanwhile the kernel's thread answers what a new network may carry. */
export function askUnderlay(engine: Engine): Handler {
  return (request: PostedNetwork, _response, next) => {
    if (request.method !== 'POST') return next();
    request.defaultMtu = engine.defaultMtu();
    // Whoever gives an MTU does not wait for it.
    request.defaultMtu.catch(() => undefined);
    next();
  };
}

export function networkRoutes(engine: Engine): Routes {
  const router = newRoutes();
  const { networks } = engine;

  router.get('/', async (request, response) => {
    parseWith(NoQuery, queryOf(request));
    await engine.ready();
    answer(response, { networks: networks.list().map(networkJson) });
  });

  router.post('/', async (request: PostedNetwork, response) => {
    const { id, name, ip_range, gateway, mtu, vxlan_vni, dataplane } = parseWith(NetworkCreate, request.body);
    await engine.ready();
    const network = await networks.create({
      id,
      name,
      range: ip_range as Cidr | undefined,
      gateway: gateway as InterfaceAddress | undefined,
      vni: vxlan_vni,
      mtu: mtu ?? (await (request.defaultMtu ?? engine.defaultMtu())),
      dataPlane: dataplane,
      origin: 'api',
    });
    answer(response, { network: networkJson(network) }, 201);
  });

  router.get('/:id', async (request, response) => {
    parseWith(NoQuery, queryOf(request));
    await engine.ready();
    answer(response, { network: networkJson(await networks.resolve(request.params.id)) });
  });

  router.delete('/:id', async (request, response) => {
    const { force } = parseWith(NetworkRemoval, queryOf(request));
    await engine.ready();
    const { record } = await networks.resolve(request.params.id);
    await (force ? engine.forceRemoveNetwork(record.id) : networks.remove(record.id));
    answerNothing(response);
  });

  return router;
}
