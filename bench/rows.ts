/** Every row of the table, in its order. */
import type { Row } from './row.js';
import { agentRow } from './row-agent.js';
import { agentsRow, clientsRow } from './row-clients.js';
import { dockerRow } from './row-docker.js';
import { endpointRow } from './row-endpoint.js';
import { entriesRow } from './row-entries.js';
import { networksRow } from './row-networks.js';
import { propagationRow } from './row-propagation.js';
import { throughputRow } from './row-throughput.js';

export const ROWS: readonly Row[] = [
  endpointRow,
  clientsRow,
  agentsRow,
  networksRow,
  entriesRow,
  propagationRow,
  dockerRow,
  agentRow,
  throughputRow,
];
