/** /hosts */
import { Router } from 'express';
import type { Engine } from '../engine/engine.js';
import { parseWith } from '../model/parse.js';
import { parseHostName } from '../model/scalars.js';
import { answer } from './answer.js';
import { HostChange, HostRemoval, hostJson, NoQuery } from './schemas.js';

export function hostRoutes(engine: Engine): Router {
  const router = Router();
  const { hosts } = engine;

  router.get('/', async (request, response) => {
    parseWith(NoQuery, request.query);
    await engine.ready();
    answer(response, { hosts: hosts.list().map(hostJson) });
  });

  router.get('/:name', async (request, response) => {
    parseWith(NoQuery, request.query);
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
    const { gone } = parseWith(HostRemoval, request.query);
    const name = parseHostName(request.params.name);
    await engine.ready();
    if (gone) answer(response, { given_away: await hosts.removeForGood(name) });
    else answer(response, { host: hostJson(await hosts.remove(name)) });
  });

  return router;
}
