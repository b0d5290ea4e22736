/** /networks: see spec of the API in docs/api.md. */
import { Router } from 'express';
import type { Engine } from '../engine/engine.js';
import { parseWith } from '../model/parse.js';
import { mtuOf, type Network } from '../model/records.js';
import type { Cidr, InterfaceAddress } from '../model/scalars.js';
import { NetworkCreate } from './schemas.js';

const toJson = (network: Network) => ({ ...network.record, mtu: mtuOf(network) });
export type NetworkJson = ReturnType<typeof toJson>;

export function networkRoutes(engine: Engine): Router {
  const router = Router();
  const { networks } = engine;

  router.get('/', async (_request, response) => {
    await engine.ready();
    response.json({ networks: networks.list().map(toJson) });
  });

  router.post('/', async (request, response) => {
    const { id, name, ip_range, gateway, mtu } = parseWith(NetworkCreate, request.body ?? {});
    await engine.ready();
    const network = await networks.create({
      id,
      name,
      range: ip_range as Cidr | undefined,
      gateway: gateway as InterfaceAddress | undefined,
      mtu: mtu ?? (await engine.defaultMtu()),
      origin: 'api',
    });
    response.status(201).json({ network: toJson(network) });
  });

  router.get('/:id', async (request, response) => {
    await engine.ready();
    response.json({ network: toJson(await networks.resolve(request.params.id)) });
  });

  router.delete('/:id', async (request, response) => {
    await engine.ready();
    const { record } = await networks.resolve(request.params.id);
    await networks.remove(record.id);
    response.status(204).end();
  });

  return router;
}
