import fc from 'fast-check';
import { endpointIdOf, type HostSettings, netnsOf, overlayVethOf, targetVethOf } from '../../engine/host.js';
import { newEndpointId, newNetworkId, parseEndpointId, parseIfName } from '../../model/scalars.js';

const dockerId = fc.string({
  unit: fc.constantFrom(...'0123456789abcdef'),
  minLength: 64,
  maxLength: 64,
});

describe('endpointIdOf()', () => {
  it('is a UUID v4 and a pure function of the Docker id', () => {
    fc.assert(
      fc.property(dockerId, id => {
        const endpoint = endpointIdOf(id);
        expect(endpoint).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
        expect(parseEndpointId(endpoint)).toBe(endpoint);
        expect(endpointIdOf(id)).toBe(endpoint);
      }),
    );
  });

  it('stays what it was, 128 bits of SHA-256: records in etcd bear it', () => {
    expect(endpointIdOf('0'.repeat(64))).toBe('60e05bd1-b195-4f2f-9411-2fa7197a5c88');
  });

  it('differs where Docker ids differ', () => {
    const ids = Array.from({ length: 1_000 }, (_, n) => endpointIdOf(n.toString(16).padStart(64, '0')));
    expect(new Set(ids).size).toBe(1_000);
  });

  it.each(['', '/', '../x', 'a b', 'a/b', 'é', '-a', 'x'.repeat(129)])(
    'refuses %j and names the field',
    id => {
      expect(() => endpointIdOf(id)).toThrow(
        expect.objectContaining({ kind: 'invalid', facts: expect.objectContaining({ field: 'EndpointID' }) }),
      );
    },
  );
});

describe('names of kernel objects', () => {
  it('are interface names, and differ for the two ends of one pair and for two endpoints', () => {
    const ids = Array.from({ length: 1_000 }, () => newEndpointId());
    const names = ids.flatMap(id => [overlayVethOf(id), targetVethOf(id)]);
    for (const name of names) expect(parseIfName(name)).toBe(name);
    expect(new Set(names).size).toBe(2_000);
  });

  it('come from the id alone', () => {
    const id = parseEndpointId('12345678-9abc-4def-8123-456789abcdef');
    expect(overlayVethOf(id)).toBe('sand123456789ab');
    expect(targetVethOf(id)).toBe('sandt123456789a');
  });

  it('netnsOf() puts the network into the directory of the settings', () => {
    const id = newNetworkId();
    const host = { netnsPath: '/var/run/netns', netnsPrefix: 'sc-ns-' } as HostSettings;
    expect(netnsOf(host, id)).toBe(`/var/run/netns/sc-ns-${id}`);
  });
});
