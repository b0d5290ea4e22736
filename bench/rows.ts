/** Every row of the table, in its order. */
import type { Row } from './row.js';
import { agentsRow, clientsRow } from './rows/clients.js';
import { dataPlaneRow, jumboRow } from './rows/data-plane.js';
import { dockerManyRow, dockerRow } from './rows/docker.js';
import { endpointRow } from './rows/endpoint.js';
import { etcdRow, idleRow } from './rows/etcd.js';
import { firstEndpointRow } from './rows/first-endpoint.js';
import { machineRow } from './rows/machine.js';
import { memoryRow } from './rows/memory.js';
import { networksRow, vniRow } from './rows/networks.js';
import { eventLoopRow } from './rows/node.js';
import { pluginRow } from './rows/plugin.js';
import { changesRow, propagationRow } from './rows/propagation.js';
import { restartRow, startRow } from './rows/start.js';

export const ROWS: readonly Row[] = [
  machineRow,
  endpointRow,
  clientsRow,
  agentsRow,
  eventLoopRow,
  networksRow,
  vniRow,
  firstEndpointRow,
  propagationRow,
  changesRow,
  startRow,
  restartRow,
  memoryRow,
  etcdRow,
  idleRow,
  pluginRow,
  dockerRow,
  dockerManyRow,
  dataPlaneRow,
  jumboRow,
];
