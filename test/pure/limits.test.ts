import { ENDPOINTS_MAX, type NetworkSize, nearLimits, usageText } from '../../engine/limits.js';
import { type Cidr, parseNetworkId } from '../../model/scalars.js';

const NETWORK = '6ffc3990-b212-47f2-a5d1-2afe7526e548';
const FINE = { openFiles: 20_000, neighbours: undefined };

/** A network with `local` endpoints here and `endpoints` in the cluster. */
const sized = (
  local: number,
  endpoints = local,
  range = '10.0.0.0/16',
  dataPlane: NetworkSize['dataPlane'] = 'bridge',
): NetworkSize[] => [{ id: parseNetworkId(NETWORK), range: range as Cidr, endpoints, local, dataPlane }];
const told = (...args: Parameters<typeof nearLimits>) => nearLimits(...args).map(usageText);

describe('nearLimits()', () => {
  it('says nothing where there is room', () => {
    expect(told(sized(900), FINE)).toEqual([]);
    expect(told(sized(0), { ...FINE, openFiles: undefined })).toEqual([]);
  });

  it('tells of a bridge, from nine tenths of its ports on', () => {
    expect(told(sized(920), FINE)).toEqual([
      expect.stringMatching(
        new RegExp(`^interfaces of network ${NETWORK} on this host: 920 of ${ENDPOINTS_MAX}; .*another host`),
      ),
    ]);
  });

  it('tells of no ports where there is no bridge', () => {
    expect(told(sized(5_000, 5_000, '10.0.0.0/16', 'macvlan'), FINE)).toEqual([]);
  });

  it('tells of open files, and how they are raised', () => {
    expect(told(sized(1), { ...FINE, openFiles: 512 })).toEqual([
      expect.stringContaining('raise LimitNOFILE'),
    ]);
  });

  it('tells of neighbours where permanent ones count, and names the sysctl', () => {
    expect(told(sized(1, 1_000), { ...FINE, neighbours: 1_024 })).toEqual([
      expect.stringContaining('net.ipv4.neigh.default.gc_thresh3'),
    ]);
    expect(told(sized(1, 1_000), FINE)).toEqual([]);
  });

  it.each([
    ['10.0.0.0/24', 240, 'a larger one'],
    ['10.0.0.0/8', 65_000, 'beyond the first 65,536'],
  ])('tells of the addresses of a %s', (range, used, advice) => {
    expect(told(sized(1, used, range), FINE)).toEqual([expect.stringContaining(advice)]);
  });

  it('passes over a range that it cannot read', () => {
    expect(told(sized(1, 5, '10.0.0.0/31'), FINE)).toEqual([]);
  });
});
