/** /networks */
import { Router } from 'express';
import type { Engine } from '../engine/engine.js';
import { parseWith } from '../model/parse.js';
import type { Cidr, InterfaceAddress } from '../model/scalars.js';
import { answer } from './answer.js';
import { NetworkCreate, NetworkRemoval, NoQuery, networkJson } from './schemas.js';

export function networkRoutes(engine: Engine): Router {
  const router = Router();
  const { networks } = engine;

  router.get('/', async (request, response) => {
    parseWith(NoQuery, request.query);
    await engine.ready();
    answer(response, { networks: networks.list().map(networkJson) });
  });

  router.post('/', async (request, response) => {
    const { id, name, ip_range, gateway, mtu, vxlan_vni, dataplane } = parseWith(NetworkCreate, request.body);
    await engine.ready();
    const network = await networks.create({
      id,
      name,
      range: ip_range as Cidr | undefined,
      gateway: gateway as InterfaceAddress | undefined,
      vni: vxlan_vni,
      mtu: mtu ?? (await engine.defaultMtu()),
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
