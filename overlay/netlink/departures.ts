/**
 * Hears of interfaces that go away in any namespace that has a number in the one it is opened in: of a macvlan nothing
 * else is seen there. The host's own namespace is one of them, so that what is none of this network's must cost little.
 */
import type { MacAddress } from '../../model/scalars.js';
import { messagesOf } from './codec.js';
import { RECEIVE_BYTES, REMOVAL_GROUP, RTM_DELLINK, RTM_NEWLINK, RTNLGRP_LINK } from './constants.js';
import { parseLink } from './link.js';
import {
  closeFd,
  listenEverywhere,
  membership,
  openRouteSocket,
  receiveQueued,
  subscribe,
} from './socket.js';

let buffer: Buffer | undefined;

export class Departures implements Disposable {
  readonly #fd: number;
  #expected = new Set<MacAddress>();

  /** Of the namespace that the thread is in now. */
  constructor() {
    this.#fd = openRouteSocket();
    listenEverywhere(this.#fd);
    subscribe(this.#fd, membership(this.#fd, [RTNLGRP_LINK]));
  }

  /** Whose interfaces should be there. */
  expect(macs: Iterable<MacAddress>): void {
    this.#expected = new Set(macs);
  }

  /** One more. */
  expectAlso(mac: MacAddress): void {
    this.#expected.add(mac);
  }

  /** Whether one of them went since the last look, and was not taken out of use by us. */
  get hasNews(): boolean {
    buffer ??= Buffer.alloc(RECEIVE_BYTES);
    let news = false;
    for (;;) {
      const got = receiveQueued(this.#fd, buffer);
      if (got === 'nothing') return news;
      news ||= got === 'overflow' || this.#isNews(buffer.subarray(0, got));
    }
  }

  #isNews(packet: Buffer): boolean {
    for (const message of messagesOf(packet)) {
      if (message.type !== RTM_DELLINK) continue;
      const link = parseLink({ ...message, type: RTM_NEWLINK });
      const isOurs = link?.mac !== undefined && link.kind === 'macvlan' && this.#expected.has(link.mac);
      if (isOurs && link.group !== REMOVAL_GROUP) return true;
    }
    return false;
  }

  [Symbol.dispose](): void {
    closeFd(this.#fd);
  }
}
