/** The API's description for machines (OpenAPI 3.1), made of the very schemas that check its requests. */
import * as z from 'zod';
import {
  EndpointAnswer,
  EndpointCreate,
  EndpointQuery,
  ErrorAnswer,
  HostAnswer,
  HostChange,
  HostRemoval,
  NetworkAnswer,
  NetworkCreate,
  NetworkRemoval,
  StatusAnswer,
} from './schemas.js';
import { DifferenceAnswer, LeakAnswer } from './schemas-upkeep.js';

type Json = Readonly<Record<string, unknown>>;

const COMPONENTS = {
  Network: NetworkAnswer,
  NetworkCreate,
  Endpoint: EndpointAnswer,
  EndpointCreate,
  Host: HostAnswer,
  HostChange,
  Status: StatusAnswer,
  Difference: DifferenceAnswer,
  Leak: LeakAnswer,
  Error: ErrorAnswer,
};

/** What is sent, not what we make of it, is what a client wants to know. */
function schemaOf(schema: z.ZodType): Json {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, { io: 'input' });
  return rest;
}

const ref = (name: keyof typeof COMPONENTS): Json => ({ $ref: `#/components/schemas/${name}` });
const json = (schema: Json): Json => ({ 'application/json': { schema } });
const answer = (description: string, schema?: Json): Json => ({
  description,
  ...(schema ? { content: json(schema) } : {}),
});
const object = (properties: Readonly<Record<string, Json>>): Json => ({
  type: 'object',
  properties,
  required: Object.keys(properties),
});
const body = (name: keyof typeof COMPONENTS): Json => ({ requestBody: { content: json(ref(name)) } });

function queryOf(schema: z.ZodObject): Json[] {
  const { properties = {} } = schemaOf(schema) as { properties?: Record<string, Json> };
  return Object.entries(properties).map(([name, at]) => ({ name, in: 'query', required: false, schema: at }));
}

const inPath = (description: string, name = 'id'): Json => ({
  name,
  in: 'path',
  required: true,
  description,
  schema: { type: 'string' },
});
const NETWORK = inPath('Id or name of the network');

const REFUSALS: Readonly<Record<string, string>> = {
  '400': 'The request is malformed or invalid; the error names the field',
  '404': 'There is no such object',
  '409': 'Another object stands in the way',
  '503': 'etcd does not answer; the same request may succeed later',
};

/** An operation with the refusals it may answer. */
const operation = (operationId: string, summary: string, rest: Json, ...refusals: string[]): Json => ({
  operationId,
  summary,
  ...rest,
  responses: {
    ...(rest['responses'] as Json),
    ...Object.fromEntries(
      refusals.map(status => [status, answer(REFUSALS[status] ?? '', ref('Error'))] as const),
    ),
  },
});

const listOf = (key: string, name: 'Network' | 'Endpoint' | 'Host') =>
  answer('All of them', object({ [key]: { type: 'array', items: ref(name) } }));

const NETWORKS: Json = {
  get: operation(
    'listNetworks',
    'Networks of the cluster',
    { responses: { '200': listOf('networks', 'Network') } },
    '400',
    '503',
  ),
  post: operation(
    'createNetwork',
    'Make a network',
    {
      ...body('NetworkCreate'),
      responses: { '201': answer('It is made', object({ network: ref('Network') })) },
    },
    '400',
    '409',
    '503',
  ),
};

const ONE_NETWORK: Json = {
  parameters: [NETWORK],
  get: operation(
    'getNetwork',
    'One network',
    { responses: { '200': answer('The network', object({ network: ref('Network') })) } },
    '400',
    '404',
    '409',
    '503',
  ),
  delete: operation(
    'deleteNetwork',
    'Delete a network that nothing uses',
    { parameters: queryOf(NetworkRemoval), responses: { '204': answer('It is gone') } },
    '400',
    '404',
    '409',
    '503',
  ),
};

const ENDPOINTS: Json = {
  get: operation(
    'listEndpoints',
    'Endpoints of the cluster, of a network or of a host; an empty filter is none',
    { parameters: queryOf(EndpointQuery), responses: { '200': listOf('endpoints', 'Endpoint') } },
    '400',
    '503',
  ),
  post: operation(
    'createEndpoint',
    'Make an endpoint on the host of the agent',
    {
      ...body('EndpointCreate'),
      responses: { '201': answer('It is made', object({ endpoint: ref('Endpoint') })) },
    },
    '400',
    '404',
    '409',
    '503',
  ),
};

const ONE_ENDPOINT: Json = {
  parameters: [inPath('Id of the endpoint')],
  delete: operation(
    'deleteEndpoint',
    'Delete an endpoint of the host of the agent; its address is free again',
    { responses: { '204': answer('It is gone') } },
    '400',
    '404',
    '409',
    '503',
  ),
};

const HOSTS: Json = {
  get: operation(
    'listHosts',
    'Hosts of the cluster, and whether they live',
    { responses: { '200': listOf('hosts', 'Host') } },
    '400',
    '409',
    '503',
  ),
};

const HOST = answer('The host', object({ host: ref('Host') }));
const COUNT: Json = { type: 'integer' };
const GIVEN_AWAY = object({ endpoints: COUNT, reservations: COUNT, bindings: COUNT });

const ONE_HOST: Json = {
  parameters: [inPath('Name of the host', 'name')],
  get: operation('getHost', 'One host', { responses: { '200': HOST } }, '400', '404', '409', '503'),
  post: operation(
    'changeHost',
    'Keep new endpoints away from a host, or let them come again',
    { ...body('HostChange'), responses: { '200': HOST } },
    '400',
    '404',
    '409',
    '503',
  ),
  delete: operation(
    'removeHost',
    'Declare a host gone, or give away all that it held',
    {
      parameters: queryOf(HostRemoval),
      responses: {
        '200': answer('It is done; with `gone` what was given away', {
          anyOf: [object({ host: ref('Host') }), object({ given_away: GIVEN_AWAY })],
        }),
      },
    },
    '400',
    '404',
    '409',
    '503',
  ),
};

const ITEMS = (key: string, name: 'Difference' | 'Leak') =>
  answer('All that was found', object({ [key]: { type: 'array', items: ref(name) } }));
const REPAIRED = object({
  done: { type: 'array', items: { type: 'string' } },
  left: { type: 'array', items: ref('Difference') },
});
const UPKEEP_REFUSALS = ['400', '409', '503'] as const;

const VERIFY: Json = {
  get: operation(
    'verify',
    "What differs in etcd's records and on the agent's host; changes nothing",
    { responses: { '200': ITEMS('differences', 'Difference') } },
    ...UPKEEP_REFUSALS,
  ),
};
const REPAIR: Json = {
  post: operation(
    'repair',
    "Mend what differs on the agent's host",
    { responses: { '200': answer('What was done, and what is left', REPAIRED) } },
    ...UPKEEP_REFUSALS,
  ),
};
const GC: Json = {
  get: operation(
    'listLeaks',
    'Addresses that are taken for nobody',
    { responses: { '200': ITEMS('addresses', 'Leak') } },
    ...UPKEEP_REFUSALS,
  ),
  post: operation(
    'returnLeaks',
    'Return them, as far as it is certain that nobody has them',
    { responses: { '200': ITEMS('addresses', 'Leak') } },
    ...UPKEEP_REFUSALS,
  ),
};

const DESCRIPTION =
  'Networks and endpoints of a SAND cluster. `CONNECT /networks/{id}?ip=&port=`, which OpenAPI has no words for, opens a ' +
  'TCP connection inside a network: docs/connect.md.';

/** The document of this version; made once. */
export function openApi(version: string): Json {
  document ??= {
    openapi: '3.1.0',
    info: { title: 'SAND', version, description: DESCRIPTION, license: { name: 'MIT', identifier: 'MIT' } },
    servers: [{ url: 'http://localhost:9999' }],
    paths: {
      '/version': {
        get: operation('getVersion', 'Version of the agent', {
          responses: { '200': answer('The version', object({ version: { type: 'string' } })) },
        }),
      },
      '/status': {
        get: operation('getStatus', 'This host at a glance', {
          responses: { '200': answer('The status', object({ status: ref('Status') })) },
        }),
      },
      '/openapi.json': {
        get: operation('getOpenApi', 'This document', {
          responses: { '200': answer('The document', { type: 'object' }) },
        }),
      },
      '/networks': NETWORKS,
      '/networks/{id}': ONE_NETWORK,
      '/endpoints': ENDPOINTS,
      '/endpoints/{id}': ONE_ENDPOINT,
      '/hosts': HOSTS,
      '/hosts/{name}': ONE_HOST,
      '/verify': VERIFY,
      '/repair': REPAIR,
      '/gc': GC,
    },
    components: {
      schemas: Object.fromEntries(
        Object.entries(COMPONENTS).map(([name, schema]) => [name, schemaOf(schema)]),
      ),
    },
  };
  return document;
}
let document: Json | undefined;
