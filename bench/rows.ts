/** Every row of the table, in its order. */
import type { Row } from './row.js';
import { agentsRow, clientsRow } from './row-clients.js';
import { endpointRow } from './row-endpoint.js';
import { entriesRow } from './row-entries.js';

export const ROWS: readonly Row[] = [endpointRow, clientsRow, agentsRow, entriesRow];
