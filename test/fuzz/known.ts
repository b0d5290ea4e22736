/** What the agent under fire has answered so far: requests that name living things reach deeper than random ids. */

export const KINDS = [
  'network',
  'endpoint',
  'name',
  'pool',
  'dockerNetwork',
  'dockerEndpoint',
  'address',
] as const;
export type Kind = (typeof KINDS)[number];

const MOST = 40; // of a kind: enough to meet one twice, few enough to meet it often

export class Known {
  readonly #values = new Map<Kind, string[]>(KINDS.map(kind => [kind, []]));
  /** Namespaces for endpoints of the API. */
  readonly netns: readonly string[];

  constructor(netns: readonly string[]) {
    this.netns = netns;
  }

  note(kind: Kind, value: unknown): void {
    const values = this.#values.get(kind) ?? [];
    if (typeof value !== 'string' || value === '' || values.includes(value)) return;
    values.push(value);
    if (values.length > MOST) values.shift();
  }

  all(kind: Kind): readonly string[] {
    return this.#values.get(kind) ?? [];
  }

  forget(kind: Kind, value: string): void {
    const values = this.#values.get(kind) ?? [];
    if (values.includes(value)) values.splice(values.indexOf(value), 1);
  }
}
