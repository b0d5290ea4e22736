/**
 * An overlay namespace that this agent has set up or adopted, held open: whatever becomes of its file, it lives on, with
 * its containers' traffic, and the file is bound again.
 */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import type { MacAddress, NetnsPath } from '../model/scalars.js';
import { pathHere } from './host-paths.js';
import { Departures } from './netlink/departures.js';
import { Monitor } from './netlink/monitor.js';
import { bindNetnsFile, inside, Netns } from './netns.js';
import { presentSettings, type Setting } from './settings.js';

export class HeldNetns implements Disposable {
  readonly netns: Netns;
  readonly monitor: Monitor;
  /** Where ports are elsewhere. */
  departures: Departures | undefined;
  readonly #inode: number;
  /** Of the settings that netlink does not tell about, with what they begin with when they are right. */
  #settings: readonly OpenSetting[] = [];
  /** Containers remember it. */
  bridgeMac: MacAddress | undefined;

  private constructor(netns: Netns, monitor: Monitor) {
    this.netns = netns;
    this.monitor = monitor;
    this.#inode = fstatSync(netns.fd).ino;
  }

  /** Undefined: there is no such namespace. */
  static hold(path: NetnsPath, home: Netns): HeldNetns | undefined {
    const netns = Netns.find(path);
    if (!netns) return undefined;
    try {
      const held = new HeldNetns(
        netns,
        inside(netns, home, () => new Monitor()),
      );
      held.#openSettings(home); // all descriptors of a network come at once
      return held;
    } catch (error) {
      netns[Symbol.dispose]();
      throw error;
    }
  }

  /** Whether the path leads to this namespace. */
  get isAtItsPath(): boolean {
    try {
      return statSync(pathHere(this.netns.path) ?? this.netns.path).ino === this.#inode;
    } catch {
      return false;
    }
  }

  /** Hears from here on of ports that go, in whichever namespace they are. */
  watchPorts(macs: Iterable<MacAddress>, home: Netns): void {
    this.departures ??= inside(this.netns, home, () => new Departures());
    this.departures.expect(macs);
  }

  bindAgain(home: Netns): void {
    bindNetnsFile(this.netns, home);
  }

  /** Whether nobody has changed the namespace's settings. */
  hasItsSettings(home: Netns): boolean {
    if (this.#settings.length === 0) this.#openSettings(home);
    const byte = Buffer.alloc(1);
    return this.#settings.every(({ fd, wanted }) => readSync(fd, byte, 0, 1, 0) === 0 || byte[0] === wanted);
  }

  #openSettings(home: Netns): void {
    this.#settings = inside(this.netns, home, () => presentSettings().map(open));
  }

  [Symbol.dispose](): void {
    this.monitor[Symbol.dispose]();
    this.departures?.[Symbol.dispose]();
    for (const { fd } of this.#settings) closeSync(fd);
    this.netns[Symbol.dispose]();
  }
}

interface OpenSetting {
  readonly fd: number;
  /** The one digit, in ASCII. */
  readonly wanted: number;
}

const open = ({ path, wanted }: Setting): OpenSetting => ({
  fd: openSync(path, 'r'),
  wanted: wanted.charCodeAt(0),
});
