/** Requests on a netlink socket: batches with one acknowledgement, dumps, and the kernel's own words in errors. */
import { KernelError } from '../../model/errors.js';
import { stepped } from '../../model/steps.js';
import { attributesOf, type Message, messagesOf, textOf, Writer, wordsOf } from './codec.js';
import {
  BATCH_MESSAGES,
  NLM_F_ACK,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSGERR_ATTR_MSG,
  RECEIVE_BYTES,
} from './constants.js';
import { closeFd, errnoName, openRouteSocket, receive, send, sendSlowly } from './socket.js';

/** How an error names a request, and which error numbers are an answer, not a failure. */
export interface Named {
  /** Like "link add sand0 type veth". */
  readonly what: string;
  readonly expected?: readonly number[];
}

/** One message: how its body is written. */
export interface Request extends Named {
  readonly type: number;
  /** Beside NLM_F_REQUEST. */
  readonly flags: number;
  write(writer: Writer): void;
}

/** Messages that were sent together: `what` names the one with sequence number `first` + i. */
export interface Batch<N extends Named = Named> {
  readonly first: number;
  readonly count: number;
  what(i: number): N;
}

interface Attempted<N extends Named = Request> {
  /** Messages that came back beside acknowledgements. */
  readonly answers: Message[];
  readonly failures: Map<N, KernelError>;
}

const DUMP_TRIES = 5; // a dump that others disturb is asked for again

/** Conns of one thread write and receive one after the other, never at once. */
let shared: { readonly into: Buffer; readonly writer: Writer } | undefined;

export class Conn implements Disposable {
  readonly #fd: number;
  readonly #into: Buffer;
  readonly #writer: Writer;
  #sequence = 0;

  /** A socket in the namespace that the thread is in now. */
  constructor() {
    this.#fd = openRouteSocket();
    shared ??= { into: Buffer.alloc(RECEIVE_BYTES), writer: new Writer() };
    this.#into = shared.into;
    this.#writer = shared.writer;
  }

  /**
   * Sends the requests in batches and answers the messages that came back beside acknowledgements.
   * @throws KernelError for the first refusal that the request did not expect; later requests were carried out.
   */
  run(requests: readonly Request[]): Message[] {
    const { answers, failures } = this.attempt(requests);
    for (const failure of failures.values()) throw failure;
    return answers;
  }

  /** The same, with each refusal beside its request. */
  attempt(requests: readonly Request[]): Attempted {
    const done: Attempted = { answers: [], failures: new Map() };
    for (let from = 0; from < requests.length; from += BATCH_MESSAGES) {
      const part = requests.slice(from, from + BATCH_MESSAGES);
      const batch = this.#encode(part);
      send(this.#fd, this.#writer.bytes());
      this.#collect(batch, done);
      const change = part.find(isChange);
      if (change) stepped('kernel', change.what);
    }
    return done;
  }

  /** Sequence numbers for messages that the caller writes himself. Answers the first of them. */
  reserve(count: number): number {
    const first = this.#sequence + 1;
    this.#sequence += count;
    return first;
  }

  /** Sends a batch that the caller has written, of which the last message asks for an acknowledgement. @throws KernelError like `run`. */
  exchange(bytes: Uint8Array, batch: Batch): void {
    send(this.#fd, bytes);
    this.#complete(batch);
    stepped('kernel', 'entries set');
  }

  /** One request that the kernel may hold for tens of milliseconds; the thread goes on meanwhile. */
  async runSlowly(request: Request): Promise<void> {
    const batch = this.#encode([request]);
    await sendSlowly(this.#fd, Buffer.from(this.#writer.bytes()));
    this.#complete(batch);
    stepped('kernel', request.what);
  }

  #complete(batch: Batch<Named>): void {
    const failures = new Map<Named, KernelError>();
    this.#collect(batch, { answers: [], failures });
    for (const failure of failures.values()) throw failure;
  }

  /** All answers to a dump request, and what ends them. */
  dump(request: Request): Message[] {
    return this.packets(request).flatMap(packet => [...messagesOf(packet)]);
  }

  /** The packets of a dump, for answers too many to be taken apart one by one. */
  packets(request: Request): Buffer[] {
    for (let tries = 1; ; tries++) {
      const { packets, disturbed } = this.#dumpOnce(request);
      if (!disturbed || tries === DUMP_TRIES) return packets;
    }
  }

  #dumpOnce(request: Request): { packets: Buffer[]; disturbed: boolean } {
    const sequence = this.reserve(1);
    this.#writer.clear();
    this.#writer.begin(request.type, NLM_F_REQUEST | NLM_F_DUMP | request.flags, sequence);
    request.write(this.#writer);
    this.#writer.end();
    send(this.#fd, this.#writer.bytes());
    const packets: Buffer[] = [];
    let disturbed = false;
    for (;;) {
      // A copy: it outlives the next receive.
      const packet = Buffer.from(this.#into.subarray(0, receive(this.#fd, this.#into)));
      if (packet.readUInt32LE(8) !== sequence) continue;
      packets.push(packet);
      const survey = surveyOf(packet);
      disturbed ||= (survey.flags & NLM_F_DUMP_INTR) !== 0;
      if (survey.lastType === NLMSG_DONE) return { packets, disturbed };
      if (survey.lastType === NLMSG_ERROR) throw refusalIn(packet, request);
    }
  }

  /** Errors come without being asked for; one acknowledgement at the end tells that all is done. */
  #encode(requests: readonly Request[]): Batch<Request> {
    const first = this.reserve(requests.length);
    this.#writer.clear();
    requests.forEach((request, i) => {
      const ack = i === requests.length - 1 ? NLM_F_ACK : 0;
      this.#writer.begin(request.type, NLM_F_REQUEST | request.flags | ack, first + i);
      request.write(this.#writer);
      this.#writer.end();
    });
    return { first, count: requests.length, what: i => requests[i] as Request };
  }

  #collect<N extends Named>({ first, count, what }: Batch<N>, { answers, failures }: Attempted<N>): void {
    for (;;) {
      const packet = this.#into.subarray(0, receive(this.#fd, this.#into));
      for (const message of messagesOf(packet)) {
        const i = message.sequence - first;
        if (i < 0 || i >= count) continue;
        if (message.type !== NLMSG_ERROR) {
          // A copy: it outlives the next receive.
          answers.push({ ...message, payload: Buffer.from(message.payload) });
          continue;
        }
        if (message.payload.readInt32LE(0) !== 0) {
          const request = what(i);
          const error = unexpected(message, request);
          if (error) failures.set(request, error);
        }
        if (i === count - 1) return;
      }
    }
  }

  [Symbol.dispose](): void {
    closeFd(this.#fd);
  }
}

/** Message types come in fours: new, delete, get, set (linux/rtnetlink.h). */
const isChange = ({ type }: Request) => (type & 3) !== 2;

/** Flags of all messages of a packet together, and the type of the last, which alone can end a dump. */
function surveyOf(packet: Buffer): { flags: number; lastType: number } {
  const words = wordsOf(packet);
  let [flags, lastType] = [0, 0];
  for (let at = 0; at < words.length; ) {
    const header = words[at + 1] ?? 0;
    flags |= header >>> 16;
    lastType = header & 0xffff;
    at += Math.max(4, ((words[at] ?? 0) + 3) >> 2);
  }
  return { flags, lastType };
}

function refusalIn(packet: Buffer, { what }: Request): KernelError {
  const last = [...messagesOf(packet)].at(-1);
  return (last && errorOf(last, what)) ?? new KernelError(`${what} is not answered by the kernel`);
}

function unexpected(message: Message, { what, expected }: Named): KernelError | undefined {
  const error = errorOf(message, what);
  return expected?.includes(error?.facts['errno'] as number) ? undefined : error;
}

/** struct nlmsgerr, with the kernel's text where it gives one; undefined for an acknowledgement. */
function errorOf(message: Message, what: string): KernelError | undefined {
  const errno = -message.payload.readInt32LE(0);
  if (errno === 0) return undefined;
  let from = 4 + 16;
  // Without NLM_F_CAPPED the whole request stands before the attributes.
  if (!(message.flags & NLM_F_CAPPED)) from = 4 + ((message.payload.readUInt32LE(4) + 3) & ~3);
  const attributes = message.flags & NLM_F_ACK_TLVS ? attributesOf(message.payload, from) : undefined;
  const text = textOf(attributes?.get(NLMSGERR_ATTR_MSG));
  const reason = text === '' ? errnoName(errno) : `${errnoName(errno)}, ${text}`;
  return new KernelError(`${what} is refused by the kernel: ${reason}`, { errno, request: what });
}
