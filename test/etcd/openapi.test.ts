import { Validator } from '@seriousme/openapi-schema-validator';
import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { apiRoutes } from '../../api/app.js';
import { ApiHost } from '../support/api-host.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { NetnsLab } from '../support/netns.js';

type Operation = Readonly<{
  operationId: string;
  parameters?: readonly { readonly name: string; readonly in: string }[];
  responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, object>> }>>;
}>;
interface Document {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, object>> };
}

let etcd: EtcdCluster;
let lab: NetnsLab;
let ant: ApiHost;
let document: Document;

beforeAll(async () => {
  etcd = await startEtcd();
  lab = await NetnsLab.open();
  const [netns] = await lab.hosts('ant');
  ant = lab.own(
    await ApiHost.open({ hosts: etcd.hosts, prefix: '/openapi', name: 'ant', netns, vtep: '10.99.0.1' }),
  );
  document = (await ant.api.get('/openapi.json')).body;
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
  await etcd.stop();
});

function checker(): Ajv2020 {
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  (formats as unknown as (to: Ajv2020) => void)(ajv); // CommonJS, whose types say otherwise
  return ajv;
}

/** Checks what an answer of `status` to an operation must look like; an answer that is not described is a fault. */
function expectDescribed(path: string, method: string, answer: { status: number; body: unknown }): void {
  const described = document.paths[path]?.[method]?.responses[`${answer.status}`];
  expect([path, method, answer.status, described]).toEqual([path, method, answer.status, expect.anything()]);
  if (!described?.content) {
    expect(answer.body).toEqual({});
    return;
  }
  const ajv = checker();
  ajv.addSchema(document, 'api');
  const pointer = [path, method, 'responses', `${answer.status}`, 'content', 'application/json', 'schema']
    .map(part => encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1')))
    .join('/');
  const validate = ajv.compile({ $ref: `api#/paths/${pointer}` });
  validate(answer.body);
  expect(validate.errors ?? []).toEqual([]);
}

describe('GET /openapi.json', () => {
  it('is valid OpenAPI 3.1', async () => {
    expect(document.openapi).toBe('3.1.0');
    expect(await new Validator().validate(structuredClone(document) as never)).toMatchObject({ valid: true });
  });

  it('lists every route that is served, and no other', () => {
    const app = apiRoutes(ant.host.engine, 'v1', ant.host.log);
    interface Layer {
      readonly route?: { readonly path: string; readonly stack: readonly { readonly method: string }[] };
      readonly handle: { readonly stack?: readonly Layer[] };
      readonly matchers: readonly ((path: string) => { readonly path: string } | false)[];
    }
    const mounts = ['/networks', '/endpoints', '/hosts'];
    const routes = (stack: readonly Layer[], at: string): string[] =>
      stack.flatMap(({ route, handle, matchers }) => {
        if (route) {
          const path = `${at}${route.path}`.replace(/(?<=.)\/$/, '').replace(/:(\w+)/g, '{$1}');
          return route.stack.map(({ method }) => `${method} ${path}`);
        }
        const mount = mounts.find(path =>
          matchers.some(match => match(path) !== false && !match('/x-nothing')),
        );
        return handle.stack ? routes(handle.stack, mount ?? '') : [];
      });
    const served = routes((app as unknown as { stack: readonly Layer[] }).stack, '');
    const described = Object.entries(document.paths).flatMap(([path, operations]) =>
      Object.keys(operations).flatMap(method => (method === 'parameters' ? [] : [`${method} ${path}`])),
    );
    expect(served.sort()).toEqual(described.sort());
  });

  it('describes real answers, of success and of refusal', async () => {
    const { api } = ant;
    expectDescribed('/version', 'get', await api.get('/version'));
    expectDescribed('/openapi.json', 'get', await api.get('/openapi.json'));
    expectDescribed('/networks', 'get', await api.get('/networks'));
    const made = await api.post('/networks').send({ name: 'shop' });
    expectDescribed('/networks', 'post', made);
    const { id } = made.body.network;
    expectDescribed('/networks', 'post', await api.post('/networks').send({ id }));
    expectDescribed('/networks', 'post', await api.post('/networks').send({ mtu: 1 }));
    expectDescribed('/networks', 'get', await api.get('/networks'));
    expectDescribed('/networks/{id}', 'get', await api.get('/networks/shop'));
    expectDescribed('/networks/{id}', 'get', await api.get('/networks/nobody'));
    const container = await lab.netns('one');
    const endpoint = await ant.endpoint(id, container.path);
    expectDescribed('/endpoints', 'post', endpoint);
    expectDescribed('/endpoints', 'post', await ant.endpoint(id, '/etc/passwd'));
    expectDescribed('/endpoints', 'post', await ant.endpoint(endpoint.body.endpoint.id));
    expectDescribed('/endpoints', 'get', await api.get('/endpoints'));
    expectDescribed('/endpoints', 'get', await api.get('/endpoints?hostname=a/b'));
    expectDescribed('/status', 'get', await api.get('/status'));
    expectDescribed('/networks/{id}', 'delete', await api.delete('/networks/shop'));
    expectDescribed('/endpoints/{id}', 'delete', await api.delete(`/endpoints/${endpoint.body.endpoint.id}`));
    expectDescribed('/endpoints/{id}', 'delete', await api.delete(`/endpoints/${endpoint.body.endpoint.id}`));
    expectDescribed('/networks/{id}', 'delete', await api.delete('/networks/shop'));
  });

  it.each([
    [
      'NetworkCreate',
      '/networks',
      {
        name: 'a',
        ip_range: '10.0.0.0/24',
        gateway: '',
        mtu: 1450,
        vxlan_vni: 77,
        type: 'overlay',
        dataplane: 'macvlan',
      },
    ],
    ['NetworkCreate', '/networks', {}],
    [
      'EndpointCreate',
      '/endpoints',
      {
        network_id: '6ffc3990-b212-47f2-a5d1-2afe7526e548',
        ipv4_address: '',
        activate: false,
        activate_params: { ns_handle_path: '', set_addr: false },
      },
    ],
  ])('%s takes what the API takes: %s %j', async (name, path, body) => {
    expect(checker().validate(document.components.schemas[name] as object, body)).toBe(true);
    expect((await ant.api.post(path).send(body)).status).not.toBe(400);
  });

  it.each([
    ['NetworkCreate', '/networks', { mtu: '1450' }],
    ['NetworkCreate', '/networks', { dataplane: 'veth' }],
    ['NetworkCreate', '/networks', { vxlan_vni: 0 }],
    ['NetworkCreate', '/networks', { ip_rnage: 'x' }],
    ['NetworkCreate', '/networks', { id: 'x' }],
    ['EndpointCreate', '/endpoints', {}],
    ['EndpointCreate', '/endpoints', { network_id: 7 }],
    ['EndpointCreate', '/endpoints', { network_id: '6ffc3990-b212-47f2-a5d1-2afe7526e548', activate: 'yes' }],
  ])('%s refuses what the API refuses: %s %j', async (name, path, body) => {
    expect(checker().validate(document.components.schemas[name] as object, body)).toBe(false);
    expect((await ant.api.post(path).send(body)).status).toBe(400);
  });
});
