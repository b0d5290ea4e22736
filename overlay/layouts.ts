/** Which layout a network has. */
import type { DataPlane } from '../model/data-plane.js';
import { bridgeLayout } from './bridge-layout.js';
import { findLink } from './endpoint.js';
import type { Layout } from './layout.js';
import { macvlanLayout } from './macvlan-layout.js';
import type { Conn } from './netlink/conn.js';
import { GATEWAY } from './network.js';

const LAYOUTS: Readonly<Record<DataPlane, Layout>> = { bridge: bridgeLayout, macvlan: macvlanLayout };

export const layoutOf = (dataPlane: DataPlane): Layout => LAYOUTS[dataPlane];

/** As the overlay's namespace says itself. */
export const layoutIn = (overlay: Conn): Layout =>
  findLink(overlay, GATEWAY)?.kind === 'macvlan' ? macvlanLayout : bridgeLayout;
