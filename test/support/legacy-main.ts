/** The stand-in as a program: the original's environment, its API and its Docker plugin as sockets. */
import { mkdirSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { dirname } from 'node:path';
import { LegacyAgent } from './legacy-agent.js';
import { DOCKER_CALLS, type DockerBody } from './legacy-docker.js';
import { LegacyStore } from './legacy-store.js';

type Answer = { readonly status: number; readonly body: object };

const {
  ETCD_HOSTS = '',
  ETCD_PREFIX = '/sc-net',
  PEER_HOSTNAME = '',
  PEER_IP = '',
  API_SOCKET = '',
} = process.env;
const { PLUGIN_SOCKET, DOCKER_PLUGIN_HTTP_PORT = '9998', ENABLE_DOCKER_PLUGIN } = process.env;

const store = new LegacyStore(ETCD_HOSTS.split(','), ETCD_PREFIX, { hostname: PEER_HOSTNAME, ip: PEER_IP });
const agent = new LegacyAgent(store);

async function bodyOf(request: IncomingMessage): Promise<Record<string, never>> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString() || '{}');
}

function serve(answer: (request: IncomingMessage) => Promise<Answer>): Server {
  return createServer((request, response) => {
    answer(request)
      .catch((error: Error): Answer => {
        console.error(request.method, request.url, error);
        return { status: 500, body: { error: error.message, Err: error.message, Error: error.message } };
      })
      .then(({ status, body }) => response.writeHead(status).end(status === 204 ? '' : JSON.stringify(body)))
      .catch(error => console.error(error));
  });
}

const api = serve(async request => {
  const [, family, id] = (request.url ?? '').split('/');
  if (family === 'endpoints' && request.method === 'POST') {
    const { network_id, activate_params, ipv4_address } = await bodyOf(request);
    const { ns_handle_path } = (activate_params ?? {}) as { ns_handle_path?: string };
    const endpoint = await agent.createEndpoint(network_id ?? '', ns_handle_path, ipv4_address);
    return { status: 201, body: { endpoint } };
  }
  if (family === 'endpoints' && request.method === 'DELETE') {
    await agent.deleteEndpoint(id ?? '');
    return { status: 204, body: {} };
  }
  if (family === 'networks' && request.method === 'POST') {
    const { id: wanted } = await bodyOf(request);
    await store.createNetwork(wanted);
    return { status: 201, body: { network: await store.network(wanted ?? '') } };
  }
  return pluginAnswer(request);
});

async function pluginAnswer(request: IncomingMessage): Promise<Answer> {
  const call = DOCKER_CALLS[(request.url ?? '').slice(1)];
  const body = await bodyOf(request);
  if (!call) return { status: 404, body: {} };
  return { status: 200, body: await call(agent, body as unknown as DockerBody) };
}
const plugin = serve(pluginAnswer);

function listenOn(server: Server, path: string): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  rmSync(path, { force: true });
  return new Promise(resolve => server.listen(path, resolve));
}

process.once('SIGTERM', async () => {
  for (const server of [api, plugin]) {
    server.close();
    server.closeAllConnections();
  }
  await agent[Symbol.asyncDispose]();
  process.exit(0);
});

await agent.start();
if (PLUGIN_SOCKET) await listenOn(plugin, PLUGIN_SOCKET);
else if (ENABLE_DOCKER_PLUGIN) plugin.listen(Number(DOCKER_PLUGIN_HTTP_PORT));
await listenOn(api, API_SOCKET);
