import { newNetworkId } from '../../model/scalars.js';
import { parseEndpointOptions, parseIpamOptions, parseNetworkOptions } from '../../plugin/options.js';

const ID = newNetworkId();
const GENERIC = 'com.docker.network.generic';
const MTU = 'com.docker.network.driver.mtu';

/** The error of a field with a text. */
const refusal = (field: string, text: RegExp | string) =>
  expect.objectContaining({
    kind: 'invalid',
    message: typeof text === 'string' ? expect.stringContaining(text) : expect.stringMatching(text),
    facts: expect.objectContaining({ field }),
  });

describe('parseIpamOptions()', () => {
  it.each([
    [{}, { kind: 'own' }],
    [{ sand: '' }, { kind: 'own' }],
    [{ 'sand-name': 'shop' }, { kind: 'name', name: 'shop' }],
    [{ 'sand-name': 'two words' }, { kind: 'name', name: 'two words' }],
    [{ 'sand-id': ID }, { kind: 'id', id: ID }],
    [{ 'sand-id': ID.toUpperCase() }, { kind: 'id', id: ID }],
    [
      { 'sand-id': ID, sand: '' },
      { kind: 'id', id: ID },
    ],
  ])('%j refers to %j', (options, expected) => {
    expect(parseIpamOptions(options as Record<string, string>)).toEqual(expected);
  });

  it.each([
    [{ 'sand-id': ID, 'sand-name': 'shop' }, 'sand-name', 'both given'],
    [{ 'sand-id': 'shop' }, 'sand-id', 'it must be a UUID'],
    [{ 'sand-name': '' }, 'sand-name', 'sand-name is ""'],
    [{ 'sand-name': 'a/b' }, 'sand-name', 'without a slash'],
    [{ sand: 'x' }, 'sand', 'takes no value'],
    [
      { 'sand-egress': 'none' },
      'sand-egress',
      '--ipam-opt sand-egress is not known to SAND; it takes sand-id, sand-name',
    ],
    [{ foo: 'bar' }, 'foo', '--ipam-opt foo'],
  ])('%j is refused', (options, field, text) => {
    expect(() => parseIpamOptions(options as Record<string, string>)).toThrow(refusal(field, text));
  });
});

describe('parseNetworkOptions()', () => {
  const nothing = { reference: { kind: 'own' }, egress: 'docker', internal: false, mtu: undefined };

  it.each([
    [{}, {}],
    [{ [GENERIC]: null }, {}],
    [{ [GENERIC]: {} }, {}],
    [{ [GENERIC]: { 'sand-name': 'shop' } }, { reference: { kind: 'name', name: 'shop' } }],
    [{ [GENERIC]: { 'sand-id': ID } }, { reference: { kind: 'id', id: ID } }],
    [{ [GENERIC]: { 'sand-egress': 'none' } }, { egress: 'none' }],
    [{ [GENERIC]: { 'sand-egress': 'docker' } }, {}],
    [{ [GENERIC]: { [MTU]: '1400' } }, { mtu: 1400 }],
    [{ [GENERIC]: { [MTU]: '68' } }, { mtu: 68 }],
    [{ [GENERIC]: { 'sand-dataplane': 'bridge' } }, { dataPlane: 'bridge' }],
    [{ [GENERIC]: { 'sand-dataplane': 'macvlan' } }, { dataPlane: 'macvlan' }],
    [{ 'com.docker.network.internal': true }, { internal: true }],
    [{ 'com.docker.network.enable_ipv6': false, 'com.docker.network.enable_ipv4': true }, {}],
  ])('%j', (options, expected) => {
    expect(parseNetworkOptions(options)).toEqual({ ...nothing, ...expected });
  });

  it.each([
    [{ 'com.docker.network.enable_ipv6': true }, 'enable_ipv6', 'leave out --ipv6'],
    [{ 'com.docker.network.enable_ipv4': false }, 'enable_ipv4', '--ipv4=false'],
    [{ 'com.docker.network.internal': 'yes' }, 'com.docker.network.internal', 'true or false'],
    [{ [GENERIC]: [] }, GENERIC, 'an object of strings'],
    [{ [GENERIC]: 'x' }, GENERIC, 'an object of strings'],
    [{ [GENERIC]: { 'sand-name': 7 } }, 'sand-name', '--opt sand-name is 7; it must be a string'],
    [{ [GENERIC]: { 'sand-name': 'a', 'sand-id': ID } }, 'sand-name', 'both given'],
    [{ [GENERIC]: { 'sand-egress': 'host' } }, 'sand-egress', 'must be docker or none'],
    [
      { [GENERIC]: { 'sand-dataplane': 'veth' } },
      'sand-dataplane',
      'is "veth"; it must be bridge or macvlan',
    ],
    [{ [GENERIC]: { 'sand-dataplane': '' } }, 'sand-dataplane', 'must be bridge or macvlan'],
    [{ [GENERIC]: { [MTU]: '67' } }, MTU, 'from 68 to 65535'],
    [{ [GENERIC]: { [MTU]: '65536' } }, MTU, 'from 68 to 65535'],
    [{ [GENERIC]: { [MTU]: '1e3' } }, MTU, 'from 68 to 65535'],
    [
      { [GENERIC]: { 'com.docker.network.bridge.name': 'br7' } },
      'com.docker.network.bridge.name',
      'is not known to SAND',
    ],
    [{ [GENERIC]: { parent: 'eth0' } }, 'parent', 'it takes sand-id, sand-name, sand-egress'],
  ])('%j is refused, never ignored', (options, field, text) => {
    expect(() => parseNetworkOptions(options)).toThrow(refusal(field, text));
  });
});

describe('parseEndpointOptions()', () => {
  it.each([
    [{}, false],
    [{ 'com.docker.network.portmap': [] }, false],
    [{ 'com.docker.network.portmap': [{ Proto: 6, Port: 80 }] }, true],
    [{ 'com.docker.network.endpoint.exposedports': [{ Proto: 6, Port: 80 }] }, false],
  ])('%j publishes ports: %j', (options, published) => {
    expect(parseEndpointOptions(options)).toEqual({ published });
  });

  it('refuses an option that is none of Docker’s own', () => {
    expect(() => parseEndpointOptions({ speed: 'fast' })).toThrow(refusal('speed', '--driver-opt speed'));
  });
});
