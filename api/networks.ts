/** /networks */
import { type RequestHandler, type Response, Router } from 'express';
import type { Engine } from '../engine/engine.js';
import { parseWith } from '../model/parse.js';
import type { Cidr, InterfaceAddress } from '../model/scalars.js';
import { answer } from './answer.js';
import { NetworkCreate, NetworkRemoval, NoQuery, networkJson } from './schemas.js';

interface Underlay extends Record<string, unknown> {
  defaultMtu: Promise<number>;
}

/** Before the body of a POST is read: meanwhile the kernel's thread answers what a new network may carry. */
export function askUnderlay(engine: Engine): RequestHandler<object, unknown, unknown, object, Underlay> {
  return (request, response, next) => {
    if (request.method !== 'POST') return next();
    response.locals.defaultMtu = engine.defaultMtu();
    // Whoever gives an MTU does not wait for it.
    response.locals.defaultMtu.catch(() => undefined);
    next();
  };
}

export function networkRoutes(engine: Engine): Router {
  const router = Router();
  const { networks } = engine;

  router.get('/', async (request, response) => {
    parseWith(NoQuery, request.query);
    await engine.ready();
    answer(response, { networks: networks.list().map(networkJson) });
  });

  router.post('/', async (request, response: Response<unknown, Underlay>) => {
    const { id, name, ip_range, gateway, mtu, vxlan_vni, dataplane } = parseWith(NetworkCreate, request.body);
    await engine.ready();
    const network = await networks.create({
      id,
      name,
      range: ip_range as Cidr | undefined,
      gateway: gateway as InterfaceAddress | undefined,
      vni: vxlan_vni,
      mtu: mtu ?? (await response.locals.defaultMtu),
      dataPlane: dataplane,
      origin: 'api',
    });
    answer(response, { network: networkJson(network) }, 201);
  });

  router.get('/:id', async (request, response) => {
    parseWith(NoQuery, request.query);
    await engine.ready();
    answer(response, { network: networkJson(await networks.resolve(request.params.id)) });
  });

  router.delete('/:id', async (request, response) => {
    const { force } = parseWith(NetworkRemoval, request.query);
    await engine.ready();
    const { record } = await networks.resolve(request.params.id);
    await (force ? engine.forceRemoveNetwork(record.id) : networks.remove(record.id));
    response.status(204).end();
  });

  return router;
}
