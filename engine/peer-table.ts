/**
 * Every endpoint of the cluster: address, MAC, host, and which write of its record is known. What is asked for is made
 * from columns of numbers on the spot (`peer-columns.ts`).
 */
import type { Peer } from '../model/records.js';
import type { EndpointId, HostName, IpAddress, NetworkId } from '../model/scalars.js';
import { PeerPacker } from '../overlay/peers.js';
import { Homes } from './homes.js';
import { NO_ROW, PeerColumns } from './peer-columns.js';

/** The endpoints of one network. */
export interface PeerList {
  readonly number: number;
  first: number;
  last: number;
  size: number;
}

/** Endpoints of one network, to look at. */
export interface Peers {
  readonly size: number;
  values(): Iterable<Peer>;
}

/** The writes of a record: the first, and the last. */
export interface Writes {
  /** Where the endpoint stands, if it is known. */
  readonly row: number | undefined;
  /** 0: as it was told before. */
  readonly created: number;
  readonly modified: number;
}

/** What is told of an endpoint that a snapshot did not bring. */
export interface Unseen {
  readonly network: NetworkId;
  readonly endpoint: EndpointId;
}

export class PeerTable {
  readonly #rows = new PeerColumns();
  readonly #homes = new Homes();
  readonly #networks: (NetworkId | undefined)[] = [];
  readonly #freeNumbers: number[] = [];

  openList(network: NetworkId): PeerList {
    const number = this.#freeNumbers.pop() ?? this.#networks.length;
    this.#networks[number] = network;
    return { number, first: NO_ROW, last: NO_ROW, size: 0 };
  }

  /** Of a list that is empty. */
  closeList({ number }: PeerList): void {
    this.#networks[number] = undefined;
    this.#freeNumbers.push(number);
  }

  /** Undefined: the endpoint is not in the list. Valid until the next change. */
  find(list: PeerList | undefined, id: EndpointId): number | undefined {
    const row = list ? this.#rows.find(list.number, id) : NO_ROW;
    return row === NO_ROW ? undefined : row;
  }

  /** Of any network. */
  findAnywhere(id: EndpointId): Peer | undefined {
    for (const row of this.#rows.ofId(id)) return this.peer(row);
    return undefined;
  }

  peer(row: number): Peer {
    const { hostname, vtep } = this.#homes.at(this.#rows.columns.homes[row] ?? 0);
    const rows = this.#rows;
    return { endpointId: rows.idOf(row), address: rows.addressOf(row), mac: rows.macOf(row), hostname, vtep };
  }

  view(list: PeerList | undefined): Peers {
    return { size: list?.size ?? 0, values: () => this.peers(list) };
  }

  /** In the order in which they came. */
  *peers(list: PeerList | undefined): Iterable<Peer> {
    for (const row of this.#rowsOf(list)) yield this.peer(row);
  }

  /** Packed by `PeerPacker`: those on hosts that are wanted, without those whose address an older one bears. */
  packRightful(list: PeerList | undefined, isWanted: (hostname: HostName) => boolean): Uint8Array {
    const packer = new PeerPacker(list?.size ?? 0);
    const { homes, macs } = this.#rows.columns;
    const vteps = new Map<number, IpAddress | undefined>();
    for (const row of this.#rowsOf(list)) {
      const number = homes[row] ?? 0;
      if (!vteps.has(number)) {
        const { hostname, vtep } = this.#homes.at(number);
        vteps.set(number, isWanted(hostname) ? vtep : undefined);
      }
      const vtep = vteps.get(number);
      if (vtep === undefined || !this.#isRightful(row)) continue;
      packer.add(macs, row * 6, this.#rows.rawAddressOf(row), vtep);
    }
    return packer.packed;
  }

  #isRightful(row: number): boolean {
    const rows = this.#rows;
    if (!rows.sharesAddress(row)) return true;
    return this.#oldest(rows.bearers(rows.columns.networks[row] ?? 0, rows.addressOf(row))) === row;
  }

  hasPeerOn(list: PeerList | undefined, hostname: HostName): boolean {
    const { homes } = this.#rows.columns;
    for (const row of this.#rowsOf(list)) {
      if (this.#homes.at(homes[row] ?? 0).hostname === hostname) return true;
    }
    return false;
  }

  /** Of endpoints with one address, as foreign hands or the original make them, the oldest. */
  bearer(list: PeerList | undefined, address: IpAddress): Peer | undefined {
    const row = list && this.#oldest(this.#rows.bearers(list.number, address));
    return row === undefined ? undefined : this.peer(row);
  }

  /** The revision at which the bearer's record was made. */
  bornAt(list: PeerList | undefined, address: IpAddress): number | undefined {
    const row = list && this.#oldest(this.#rows.bearers(list.number, address));
    return row === undefined ? undefined : this.#rows.columns.created[row];
  }

  countsByHost(): Iterable<[HostName, number]> {
    return this.#homes.counts();
  }

  /** Tells whether the change is about an address that more than one endpoint bears, or bore. */
  put(list: PeerList, peer: Peer, { row: known, created, modified }: Writes): boolean {
    const rows = this.#rows;
    const home = this.#homes.enter(peer.hostname, peer.vtep);
    const row = known ?? rows.add(list.number, peer.endpointId, peer.address);
    let left = false;
    if (known === undefined) this.#append(list, row);
    else {
      this.#homes.leave(rows.columns.homes[row] ?? 0);
      const from = rows.addressOf(row);
      left = from !== peer.address && rows.sharesAddress(row);
      if (from !== peer.address) rows.setAddress(row, peer.address);
    }
    const { columns } = rows;
    columns.homes[row] = home;
    rows.setMac(row, peer.mac);
    columns.modified[row] = modified;
    columns.seen[row] = 1;
    if (created > 0 || known === undefined) columns.created[row] = created;
    return rows.sharesAddress(row) || left;
  }

  /** Tells the same. */
  remove(list: PeerList, row: number): boolean {
    const shared = this.#rows.sharesAddress(row);
    this.#homes.leave(this.#rows.columns.homes[row] ?? 0);
    this.#cut(list, row);
    this.#rows.drop(row);
    return shared;
  }

  /** 0: not known. */
  revisionOf(row: number | undefined): number {
    return row === undefined ? 0 : (this.#rows.columns.modified[row] ?? 0);
  }

  /** Another history: every record is older than whatever comes. */
  forgetRevisions(): void {
    this.#rows.columns.modified.fill(0);
  }

  forgetSeen(): void {
    this.#rows.columns.seen.fill(0);
  }

  see(row: number): void {
    this.#rows.columns.seen[row] = 1;
  }

  /** Not seen since `forgetSeen`, other than those written after `revision`. The list may be changed meanwhile. */
  *unseen(revision: number): Iterable<Unseen> {
    for (let row = 0; row < this.#rows.used; row++) {
      const { seen, modified, networks } = this.#rows.columns;
      if (seen[row] === 1 || (modified[row] ?? 0) > revision || this.#rows.isFree(row)) continue;
      const network = this.#networks[networks[row] ?? 0];
      if (network) yield { network, endpoint: this.#rows.idOf(row) };
    }
  }

  *#rowsOf(list: PeerList | undefined): Iterable<number> {
    for (let row = list?.first ?? NO_ROW; row !== NO_ROW; row = this.#rows.columns.next[row] ?? NO_ROW)
      yield row;
  }

  #oldest(rows: readonly number[]): number | undefined {
    if (rows.length < 2) return rows[0];
    const { created } = this.#rows.columns;
    const idOf = this.#rows.idOf;
    return [...rows].sort((a, b) => (created[a] ?? 0) - (created[b] ?? 0) || (idOf(a) < idOf(b) ? -1 : 1))[0];
  }

  #append(list: PeerList, row: number): void {
    const { previous, next } = this.#rows.columns;
    previous[row] = list.last;
    next[row] = NO_ROW;
    if (list.last === NO_ROW) list.first = row;
    else next[list.last] = row;
    list.last = row;
    list.size += 1;
  }

  #cut(list: PeerList, row: number): void {
    const { previous, next } = this.#rows.columns;
    const [before = NO_ROW, after = NO_ROW] = [previous[row], next[row]];
    if (before === NO_ROW) list.first = after;
    else next[before] = after;
    if (after === NO_ROW) list.last = before;
    else previous[after] = before;
    list.size -= 1;
  }
}
