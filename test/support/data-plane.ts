/** The data plane of networks whose test does not say: the kernel's tests run once for each, by SAND_TEST_DATAPLANE. */
import { DATA_PLANES, type DataPlane } from '../../model/data-plane.js';

const asked = process.env['SAND_TEST_DATAPLANE'] ?? 'bridge';
const found = DATA_PLANES.find(known => known === asked);
if (!found) throw new Error(`SAND_TEST_DATAPLANE is ${asked}; it must be ${DATA_PLANES.join(' or ')}`);

export const TEST_DATA_PLANE: DataPlane = found;
export const ON_BRIDGE = TEST_DATA_PLANE === 'bridge';
/** Carries the gateway's address. */
export const GATEWAY_NAME = ON_BRIDGE ? 'br0' : 'gateway0';
/** For agents that are processes. */
export const DATA_PLANE_ENV = { SAND_DATAPLANE: TEST_DATA_PLANE } as const;
