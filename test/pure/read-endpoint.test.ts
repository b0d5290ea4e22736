import { endpointAt } from '../../engine/mirror-entry.js';
import { readEndpoint } from '../../engine/read-endpoint.js';
import type { EndpointRecord } from '../../model/records.js';
import { newEndpointId, newNetworkId } from '../../model/scalars.js';

const [network, endpoint] = [newNetworkId(), newEndpointId()];
const at = { family: 'endpoint', network, endpoint } as const;

const whole = {
  id: endpoint,
  network_id: network,
  hostname: 'there',
  host_ip: '192.0.2.2',
  api_hostname: '',
  created_at: '2024-01-01T00:00:00Z',
  target_netns_path: '/run/docker/netns/0123456789ab',
  overlay_veth_name: 'sand0123456789a',
  overlay_veth_mac: '',
  target_veth_name: 'sandt123456789a',
  target_veth_mac: '02:84:0a:00:00:02',
  target_veth_ip: '10.0.0.2/24',
  active: true,
  docker: { endpoint_id: 'e', network_id: 'n', address_source: 'sand-ipam' },
};

/** As the schema understands it; undefined: it is broken. */
function bySchema(value: string): EndpointRecord | undefined {
  try {
    return endpointAt(at, { key: 'k', value, createRevision: 1, modRevision: 1 });
  } catch {
    return undefined;
  }
}

/** What people, other programs and damage make of a field. */
const ODD: readonly unknown[] = [
  ...[undefined, null, true, false, 0, 1, -1, 1.5, '', ' ', 'here', 'there', 'a/b', 'ümläut', [], {}, [1]],
  ...[
    '10.0.0.2',
    '10.0.0.2/24',
    '10.0.0.02/24',
    '10.0.0.2/024',
    '10.0.0.2/33',
    '10.0.0.2/0',
    '10.0.0.2/',
    '256.0.0.1',
  ],
  ...[
    '10.0.0.2/24 ',
    '10.0.0.2/24/1',
    '010.0.0.1',
    '1.2.3',
    '0.0.0.0',
    '255.255.255.255',
    'fd00::1',
    'fd00::1/64',
    'FD00::0:1',
  ],
  ...[
    '02:84:0a:00:00:02',
    '02:84:0A:00:00:02',
    '03:84:0a:00:00:02',
    '00:00:00:00:00:00',
    '02-84-0a-00-00-02',
    '02:84:0a',
  ],
  ...[
    endpoint,
    endpoint.toUpperCase(),
    network,
    newEndpointId(),
    `${endpoint}\n`,
    '10.0.0.2/24\n',
    '02:84:0a:00:00:02\n',
  ],
  ...[
    { endpoint_id: 'e', network_id: 'n', address_source: 'other' },
    { endpoint_id: 'e' },
    { ...whole.docker, more: 1 },
  ],
];
const FIELDS = [...Object.keys(whole), 'unknown'];

describe('readEndpoint()', () => {
  it('reads what agents write', () => {
    const value = JSON.stringify(whole);
    expect(readEndpoint(at, value)).toEqual(bySchema(value));
    expect(readEndpoint(at, value)).toEqual(whole);
  });

  it('leaves out what it does not know, and says what is absent as the schema does', () => {
    const { id, network_id, hostname, host_ip, created_at, target_veth_mac, target_veth_ip } = whole;
    const least = { id, network_id, hostname, host_ip, created_at, target_veth_mac, target_veth_ip };
    const value = JSON.stringify({ ...least, more: 1, docker: { ...whole.docker, more: 1 } });
    const read = readEndpoint(at, value);
    expect(read).toEqual(bySchema(value));
    expect(read).not.toHaveProperty('more');
    expect(read?.docker).toEqual(whole.docker);
  });

  it.each(['', '{', '[]', 'null', '"text"', '7', '{}'])('leaves %s to the schema', value => {
    expect(readEndpoint(at, value)).toBeUndefined();
  });

  it.each(FIELDS)('understands every oddity of %s as the schema does, or leaves it to the schema', field => {
    for (const odd of ODD) {
      const value = JSON.stringify({ ...whole, [field]: odd });
      const read = readEndpoint(at, value);
      if (read) expect({ value, read }).toEqual({ value, read: bySchema(value) });
    }
  });

  it('agrees with the schema on records with several oddities at once', () => {
    const any = <T>(list: readonly T[]) => list[Math.floor(Math.random() * list.length)] as T;
    for (let round = 0; round < 5_000; round++) {
      const odd = Array.from({ length: 1 + Math.floor(Math.random() * 3) }, () => [any(FIELDS), any(ODD)]);
      const value = JSON.stringify({ ...whole, ...Object.fromEntries(odd) });
      const read = readEndpoint(at, value);
      if (read) expect({ value, read }).toEqual({ value, read: bySchema(value) });
    }
  });
});
