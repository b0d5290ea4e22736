/**
 * An overlay namespace that this agent has set up or adopted, held open with what is needed to work in it: whatever becomes
 * of its file, it lives on, with its containers' traffic, and the file is bound again.
 */
import type { MacAddress, NetnsPath } from '../model/scalars.js';
import type { Conn } from './netlink/conn.js';
import { Departures } from './netlink/departures.js';
import { Monitor } from './netlink/monitor.js';
import { bindNetnsFile, connIn, createNetns, inside, Netns } from './netns.js';
import { Settings } from './settings.js';

export class HeldNetns implements Disposable {
  readonly netns: Netns;
  readonly monitor: Monitor;
  readonly settings: Settings;
  /** Where ports are elsewhere. */
  departures: Departures | undefined;
  readonly #home: Netns;
  #conn: Conn | undefined;
  /** Containers remember it. */
  bridgeMac: MacAddress | undefined;

  private constructor(netns: Netns, home: Netns) {
    this.netns = netns;
    this.#home = home;
    this.monitor = inside(netns, home, () => new Monitor());
    try {
      this.settings = new Settings(netns, home);
    } catch (error) {
      this.monitor[Symbol.dispose]();
      throw error;
    }
  }

  /** Undefined: there is no such namespace. */
  static find(path: NetnsPath, home: Netns): HeldNetns | undefined {
    const netns = Netns.find(path);
    return netns && HeldNetns.#hold(netns, home);
  }

  /** A new one, bound to `path`; a stale file there is replaced. */
  static make(path: NetnsPath, home: Netns): HeldNetns {
    return HeldNetns.#hold(createNetns(path, home), home);
  }

  static #hold(netns: Netns, home: Netns): HeldNetns {
    try {
      return new HeldNetns(netns, home);
    } catch (error) {
      netns[Symbol.dispose]();
      throw error;
    }
  }

  /** For changes that are sent and answered without a pause in between: two at once would take each other's answers. */
  get conn(): Conn {
    this.#conn ??= connIn(this.netns, this.#home);
    return this.#conn;
  }

  /** Whether the path leads to this namespace. */
  get isAtItsPath(): boolean {
    return this.netns.isAtItsPath;
  }

  /** Hears from here on of ports that go, in whichever namespace they are. */
  watchPorts(macs: Iterable<MacAddress>): void {
    this.departures ??= inside(this.netns, this.#home, () => new Departures());
    this.departures.expect(macs);
  }

  bindAgain(): void {
    bindNetnsFile(this.netns, this.#home);
  }

  [Symbol.dispose](): void {
    this.#conn?.[Symbol.dispose]();
    this.monitor[Symbol.dispose]();
    this.departures?.[Symbol.dispose]();
    this.settings[Symbol.dispose]();
    this.netns[Symbol.dispose]();
  }
}
