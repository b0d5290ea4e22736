/** /verify, /repair, /gc: what differs from what should be, and its mending. */
import type { Engine } from '../engine/engine.js';
import { parseWith } from '../model/parse.js';
import { answer } from './answer.js';
import { newRoutes, queryOf, type Routes } from './routes.js';
import { differenceJson, leakJson, NoQuery } from './schemas-upkeep.js';

export function upkeepRoutes(engine: Engine): Routes {
  const router = newRoutes();
  const { verifier, gc } = engine.upkeep;

  router.get('/verify', async (request, response) => {
    parseWith(NoQuery, queryOf(request));
    await engine.ready();
    answer(response, { differences: (await verifier.verify()).map(differenceJson) });
  });

  router.post('/repair', async (request, response) => {
    parseWith(NoQuery, request.body);
    await engine.ready();
    const { done, left } = await verifier.repair();
    answer(response, { done, left: left.map(differenceJson) });
  });

  router.get('/gc', async (request, response) => {
    parseWith(NoQuery, queryOf(request));
    await engine.ready();
    answer(response, { addresses: (await gc.inspect()).map(leakJson) });
  });

  router.post('/gc', async (request, response) => {
    parseWith(NoQuery, request.body);
    await engine.ready();
    answer(response, { addresses: (await gc.collect('all')).map(leakJson) });
  });

  return router;
}
