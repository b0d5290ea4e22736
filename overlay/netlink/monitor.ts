/**
 * Hears what anybody changes in one namespace. What it says is only that something may have changed: a compare tells what.
 * It is asked every now and then; a thread that is ended while koffi polls a descriptor for it takes the process along.
 */
import { messagesOf } from './codec.js';
import {
  NUD_NOARP,
  NUD_PERMANENT,
  RECEIVE_BYTES,
  REMOVAL_GROUP,
  RTM_DELLINK,
  RTM_GETNEIGH,
  RTM_NEWNEIGH,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_LINK,
  RTNLGRP_NEIGH,
} from './constants.js';
import { groupOf } from './link.js';
import { closeFd, membership, openRouteSocket, receiveQueued, subscribe } from './socket.js';

const GROUPS = [RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR];
const STATE_AT = 8; // ndm_state in struct ndmsg (linux/neighbour.h)

let buffer: Buffer | undefined;

export class Monitor implements Disposable {
  readonly #fd: number;
  readonly #all: Buffer;
  readonly #none: Buffer;
  #listening = false;
  #muted = 1;
  /** There was news, and nobody has looked yet: more of it would say nothing new. */
  #told = false;

  /** Of the namespace that the thread is in now. Muted: whoever holds a namespace is about to work there. */
  constructor() {
    this.#fd = openRouteSocket();
    this.#all = membership(this.#fd, GROUPS);
    this.#none = membership(this.#fd, []);
  }

  /** Whether somebody else may have changed something since `looked`. */
  get hasNews(): boolean {
    buffer ??= Buffer.alloc(RECEIVE_BYTES);
    while (!this.#told) {
      const got = receiveQueued(this.#fd, buffer);
      if (got === 'nothing') return false;
      this.#told = got === 'overflow' || isNews(buffer.subarray(0, got));
    }
    this.#update();
    return true;
  }

  /** Somebody is about to look at everything: what comes from here on is news again. */
  looked(): void {
    buffer ??= Buffer.alloc(RECEIVE_BYTES);
    while (receiveQueued(this.#fd, buffer) !== 'nothing');
    this.#told = false;
    this.#update();
  }

  /** Our own changes are no news; twenty thousand of them would have to be read one by one. */
  mute(): void {
    this.#muted += 1;
    this.#update();
  }

  unmute(): void {
    this.#muted -= 1;
    this.#update();
  }

  #update(): void {
    const listen = this.#muted === 0 && !this.#told;
    if (listen === this.#listening) return;
    this.#listening = listen;
    subscribe(this.#fd, listen ? this.#all : this.#none);
  }

  [Symbol.dispose](): void {
    closeFd(this.#fd);
  }
}

/**
 * Neighbours that come, go and are asked for by themselves are none of ours, which are permanent; and what we took out of
 * use goes a while later.
 */
function isNews(packet: Buffer): boolean {
  for (const { type, payload } of messagesOf(packet)) {
    if (type === RTM_GETNEIGH) continue;
    if (type === RTM_DELLINK && groupOf(payload) === REMOVAL_GROUP) continue;
    if (type !== RTM_NEWNEIGH) return true;
    if ((payload.readUInt16LE(STATE_AT) & (NUD_PERMANENT | NUD_NOARP)) !== 0) return true;
  }
  return false;
}
