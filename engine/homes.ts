/** Where endpoints live: a host's name and its VTEP address. Few, borne by many, so kept once and counted. */
import type { HostName, IpAddress } from '../model/scalars.js';

export interface Home {
  readonly hostname: HostName;
  readonly vtep: IpAddress;
}

interface Counted extends Home {
  readonly number: number;
  endpoints: number;
}

export class Homes {
  /** By number; a number that nobody has is given again. */
  readonly #all: (Counted | undefined)[] = [];
  readonly #byHost = new Map<HostName, Counted[]>();
  readonly #free: number[] = [];

  /** Counts one endpoint more; answers the home's number. */
  enter(hostname: HostName, vtep: IpAddress): number {
    const ofHost = this.#byHost.get(hostname);
    const known = ofHost?.find(home => home.vtep === vtep);
    if (known) {
      known.endpoints += 1;
      return known.number;
    }
    const number = this.#free.pop() ?? this.#all.length;
    const home: Counted = { hostname, vtep, number, endpoints: 1 };
    this.#all[number] = home;
    // A host has another VTEP for as long as it takes to rewrite its records.
    if (ofHost) ofHost.push(home);
    else this.#byHost.set(hostname, [home]);
    return number;
  }

  leave(number: number): void {
    const home = this.at(number);
    home.endpoints -= 1;
    if (home.endpoints > 0) return;
    this.#all[number] = undefined;
    this.#free.push(number);
    const left = this.#byHost.get(home.hostname)?.filter(other => other !== home) ?? [];
    if (left.length > 0) this.#byHost.set(home.hostname, left);
    else this.#byHost.delete(home.hostname);
  }

  at(number: number): Counted {
    const home = this.#all[number];
    if (!home) throw new RangeError(`No home has number ${number}`);
    return home;
  }

  /** How many endpoints each host has. */
  *counts(): Iterable<[HostName, number]> {
    for (const [hostname, homes] of this.#byHost) {
      yield [hostname, homes.reduce((sum, { endpoints }) => sum + endpoints, 0)];
    }
  }
}
