/** /hosts */
import type { Engine } from '../engine/engine.js';
import { parseWith } from '../model/parse.js';
import { parseHostName } from '../model/scalars.js';
import { answer } from './answer.js';
import { newRoutes, queryOf, type Routes } from './routes.js';
import { HostChange, HostRemoval, hostJson, NoQuery } from './schemas.js';

export function hostRoutes(engine: Engine): Routes {
  const router = newRoutes();
  const { hosts } = engine;

  router.get('/', async (request, response) => {
    parseWith(NoQuery, queryOf(request));
    await engine.ready();
    answer(response, { hosts: hosts.list().map(hostJson) });
  });

  router.get('/:name', async (request, response) => {
    parseWith(NoQuery, queryOf(request));
    const name = parseHostName(request.params.name);
    await engine.ready();
    answer(response, { host: hostJson(hosts.get(name)) });
  });

  router.post('/:name', async (request, response) => {
    const { draining } = parseWith(HostChange, request.body);
    const name = parseHostName(request.params.name);
    await engine.ready();
    answer(response, { host: hostJson(await hosts.drain(name, draining ? 'on' : 'off')) });
  });

  router.delete('/:name', async (request, response) => {
    const { gone } = parseWith(HostRemoval, queryOf(request));
    const name = parseHostName(request.params.name);
    await engine.ready();
    if (gone) answer(response, { given_away: await hosts.removeForGood(name) });
    else answer(response, { host: hostJson(await hosts.remove(name)) });
  });

  return router;
}
