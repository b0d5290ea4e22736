/** What may follow the words on the line: the brain of every shell's completion script. */
import type { SandClient } from './client.js';
import type { Candidates, Flags } from './command.js';
import { COMMANDS } from './commands/index.js';
import { clientOf, GLOBAL_FLAGS } from './flags.js';
import { commandIndex, commandNamed, flagAwaiting, flagNamed, normalize } from './words.js';

const ASK_MS = 500; // chosen: a key press that takes longer feels broken

export interface Offer {
  readonly value: string;
  readonly describe?: string;
}
type Wanted = { readonly offers: readonly Offer[] } | { readonly ask: Candidates; readonly before?: string };

const flagOffers = (flags: Flags): Offer[] =>
  Object.entries(flags).map(([name, { describe }]) => ({ value: `--${name}`, describe }));

const HELP: Offer = { value: '--help', describe: 'Show help' };

function commandOffers(before: string): Offer[] {
  return COMMANDS.filter(({ name }) => name.startsWith(before)).map(({ name, summary }) => ({
    value: name.slice(before.length),
    describe: summary,
  }));
}

/** @param words behind the program's name, of which the last is being typed */
function wantedAfter(words: readonly string[]): Wanted {
  const current = words.at(-1) ?? '';
  const done = normalize(words.slice(0, -1));
  const awaiting = flagAwaiting(done.at(-1) ?? '');
  if (awaiting) return { ask: awaiting.complete ?? [] };
  const [, name, value] = /^(-[^=]+)=(.*)$/.exec(current) ?? [];
  if (name !== undefined && value !== undefined) {
    return { ask: flagNamed(name)?.complete ?? [], before: `${name}=` };
  }
  const at = commandIndex(done);
  const command = commandNamed(done[at]);
  if (current.startsWith('-')) {
    return { offers: [...flagOffers(command?.flags ?? {}), ...flagOffers(GLOBAL_FLAGS), HELP] };
  }
  if (!command) return { offers: commandOffers(at < done.length ? `${done[at]}-` : '') };
  const operands = done.length - (at + 1) - flagWords(done.slice(at + 1));
  if (command.operand && operands === 0) return { ask: command.operand.complete ?? [] };
  return { offers: flagOffers(command.flags) };
}

/** How many of the words are flags and their values. */
const flagWords = (words: readonly string[]) =>
  words.filter((word, i) => word.startsWith('-') || flagAwaiting(words[i - 1] ?? '')).length;

async function ask(client: SandClient, what: Candidates, current: string): Promise<Offer[]> {
  if (typeof what !== 'string') return what.map(value => ({ value }));
  if (what === 'files') return [{ value: ':files' }];
  if (what === 'networks') {
    const networks = await client.networks();
    const ids = current === '' ? [] : networks.map(({ id, name }) => ({ value: id, describe: name }));
    return [...networks.map(({ name, ip_range }) => ({ value: name, describe: ip_range })), ...ids];
  }
  if (what === 'registered-hosts') {
    return (await client.hosts()).map(({ hostname, state }) => ({ value: hostname, describe: state }));
  }
  const endpoints = await client.endpoints();
  if (what === 'endpoints') {
    return endpoints.map(({ id, hostname, target_veth_ip: ip }) => ({
      value: id,
      describe: `${ip} on ${hostname}`,
    }));
  }
  return [...new Set(['all', ...endpoints.map(({ hostname }) => hostname as string)])].map(value => ({
    value,
  }));
}

/** Flags of the line that say where the agent is, as the parser would give them. */
function globalsOf(words: readonly string[]) {
  const given = (name: string) => {
    const at = words.indexOf(`--${name}`);
    return at >= 0
      ? words[at + 1]
      : words.find(word => word.startsWith(`--${name}=`))?.slice(name.length + 3);
  };
  const globals = Object.fromEntries(
    ['api-url', 'cert-file', 'key-file', 'ca-file'].map(name => [name, given(name)]),
  );
  return { ...globals, timeout: `${ASK_MS}ms` } as unknown as Parameters<typeof clientOf>[0];
}

/** Empty when the agent does not answer soon: an error has no place on a line that is being typed. */
export async function offersFor(words: readonly string[]): Promise<Offer[]> {
  const wanted = wantedAfter(words);
  const current = words.at(-1) ?? '';
  if ('offers' in wanted) return wanted.offers.filter(({ value }) => value.startsWith(current));
  const { ask: what, before = '' } = wanted;
  try {
    using client = clientOf(globalsOf(normalize(words.slice(0, -1))));
    const offers = await ask(client, what, current.slice(before.length));
    if (what === 'files') return offers;
    return offers
      .map(offer => ({ ...offer, value: `${before}${offer.value}` }))
      .filter(({ value }) => value.startsWith(current));
  } catch {
    return [];
  }
}
