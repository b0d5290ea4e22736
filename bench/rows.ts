/** Every row of the table, in its order. */
import type { Row } from './row.js';
import { agentRow } from './row-agent.js';
import { dockerRow } from './row-docker.js';
import { entriesRow } from './row-entries.js';
import { networksRow } from './row-networks.js';
import { propagationRow } from './row-propagation.js';
import { throughputRow } from './row-throughput.js';
import { agentsRow, clientsRow } from './rows/clients.js';
import { endpointRow } from './rows/endpoint.js';
import { pluginRow } from './rows/plugin.js';

export const ROWS: readonly Row[] = [
  endpointRow,
  clientsRow,
  agentsRow,
  pluginRow,
  networksRow,
  entriesRow,
  propagationRow,
  dockerRow,
  agentRow,
  throughputRow,
];
