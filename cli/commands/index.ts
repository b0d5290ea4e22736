/** Every command, in the order of the help. */
import type { Command } from '../command.js';
import { completion } from './completion.js';
import { networkConnect } from './connect.js';
import { curl } from './curl.js';
import { endpointCreate, endpointDelete, endpointList } from './endpoints.js';
import { hostDrain, hostList, hostRemove } from './hosts.js';
import { networkInspect } from './inspect.js';
import { networkCreate, networkDelete, networkList, networkShow } from './networks.js';
import { status } from './status.js';
import { gc, repair, verify } from './upkeep.js';
import { version } from './version.js';

export const COMMANDS: readonly Command[] = [
  version,
  status,
  networkCreate,
  networkList,
  networkShow,
  networkInspect,
  networkDelete,
  networkConnect,
  curl,
  endpointCreate,
  endpointList,
  endpointDelete,
  hostList,
  hostDrain,
  hostRemove,
  verify,
  repair,
  gc,
  completion,
];
