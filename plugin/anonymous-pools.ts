/**
 * Pools of networks that do not exist yet. Without `sand-id` or `sand-name` nothing ties Docker's RequestPool to its
 * CreateNetwork but pool and gateway, so an unfinished pool exists only here, once per range, and not for long.
 */
import { addressAt, parseGateway, parseRange, type Range } from '../ipam/range.js';
import { UnavailableError } from '../model/errors.js';
import {
  type InterfaceAddress,
  type IpAddress,
  type NetworkId,
  newNetworkId,
  parseIpv4,
} from '../model/scalars.js';

const UNFINISHED_MS = 10_000; // Docker's next call comes within milliseconds

export interface AnonymousPool {
  readonly id: NetworkId;
  readonly range: Range;
  gateway: InterfaceAddress;
}

interface Entry extends AnonymousPool {
  readonly ended: Promise<void>;
  end(): void;
}

export class AnonymousPools {
  readonly #byRange = new Map<string, Entry>();

  /** Waits for its turn when another unfinished pool has the range. @throws UnavailableError after 10 s. */
  async open(cidr: string): Promise<AnonymousPool> {
    const range = parseRange(cidr, 'Pool');
    const deadline = Date.now() + UNFINISHED_MS;
    for (;;) {
      const other = this.#byRange.get(range.cidr);
      if (!other) break;
      if (Date.now() >= deadline) {
        throw new UnavailableError(
          `Another docker network create with the range ${range.cidr} is unfinished; try again`,
        );
      }
      await other.ended;
    }
    return this.#add(range);
  }

  #add(range: Range): Entry {
    let end = () => {};
    const ended = new Promise<void>(resolve => {
      end = resolve;
    });
    const timer = setTimeout(() => entry.end(), UNFINISHED_MS);
    timer.unref();
    const entry: Entry = {
      id: newNetworkId(),
      range,
      gateway: parseGateway(range, undefined),
      ended,
      end: () => {
        clearTimeout(timer);
        if (this.#byRange.get(range.cidr) === entry) this.#byRange.delete(range.cidr);
        end();
      },
    };
    this.#byRange.set(range.cidr, entry);
    return entry;
  }

  find(id: string): AnonymousPool | undefined {
    for (const entry of this.#byRange.values()) if (entry.id === id) return entry;
    return undefined;
  }

  /** The unfinished pool that a CreateNetwork with this range and gateway belongs to. */
  match(pool: string, gateway: string): AnonymousPool | undefined {
    const entry = this.#byRange.get(pool);
    return entry && entry.gateway === gateway ? entry : undefined;
  }

  close(id: string): void {
    for (const entry of this.#byRange.values()) if (entry.id === id) entry.end();
  }
}

/** The gateway of an unfinished pool, as asked for or the first address. */
export function chooseGateway(pool: AnonymousPool, asked: string): InterfaceAddress {
  if (asked !== '') pool.gateway = parseGateway(pool.range, asked, 'Address');
  return pool.gateway;
}

/** An aux address needs no more than to be inside: nobody else knows the network yet. */
export function auxAddress(pool: AnonymousPool, asked: string): IpAddress {
  const address = asked === '' ? addressAt(pool.range, 2) : parseIpv4(asked, 'Address');
  parseGateway(pool.range, address, 'Address');
  return address;
}
