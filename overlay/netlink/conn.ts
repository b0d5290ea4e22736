/** Requests on a netlink socket: batches with one acknowledgement, dumps, and the kernel's own words in errors. */
import { KernelError } from '../../model/errors.js';
import { attributesOf, type Message, messagesOf, textOf, Writer } from './codec.js';
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

/** One message: what it is, for errors, and how its body is written. */
export interface Request {
  readonly type: number;
  /** Beside NLM_F_REQUEST. */
  readonly flags: number;
  /** Like "link add sand0 type veth": names the request in an error. */
  readonly what: string;
  /** Error numbers that are an answer, not a failure. */
  readonly expected?: readonly number[];
  write(writer: Writer): void;
}

interface Attempted {
  /** Messages that came back beside acknowledgements. */
  readonly answers: Message[];
  readonly failures: Map<Request, KernelError>;
}

const DUMP_TRIES = 5; // a dump that others disturb is asked for again

export class Conn implements Disposable {
  readonly #fd: number;
  readonly #into = sharedBuffer();
  readonly #writer = new Writer();
  #sequence = 0;

  /** A socket in the namespace that the thread is in now. */
  constructor() {
    this.#fd = openRouteSocket();
  }

  /**
   * Sends the requests in batches and answers the messages that came back beside acknowledgements.
   * @throws KernelError for the first refusal that the request did not expect; later requests were carried out.
   */
  run(requests: Iterable<Request>): Message[] {
    const { answers, failures } = this.attempt(requests);
    for (const failure of failures.values()) throw failure;
    return answers;
  }

  /** The same, with each refusal beside its request. */
  attempt(requests: Iterable<Request>): Attempted {
    const done: Attempted = { answers: [], failures: new Map() };
    let batch: Request[] = [];
    const flush = () => {
      if (batch.length > 0) this.#exchange(batch, done);
      batch = [];
    };
    for (const request of requests) {
      batch.push(request);
      if (batch.length === BATCH_MESSAGES) flush();
    }
    flush();
    return done;
  }

  /** One request that the kernel may hold for tens of milliseconds; the thread goes on meanwhile. */
  async runSlowly(request: Request): Promise<void> {
    const first = this.#encode([request]);
    await sendSlowly(this.#fd, Buffer.from(this.#writer.bytes()));
    const done: Attempted = { answers: [], failures: new Map() };
    this.#collect([request], first, done);
    for (const failure of done.failures.values()) throw failure;
  }

  /** All answers to a dump request. */
  dump(request: Request): Message[] {
    for (let tries = 1; ; tries++) {
      const { messages, disturbed } = this.#dumpOnce(request);
      if (!disturbed || tries === DUMP_TRIES) return messages;
    }
  }

  #dumpOnce(request: Request): { messages: Message[]; disturbed: boolean } {
    this.#writer.clear();
    this.#writer.begin(request.type, NLM_F_REQUEST | NLM_F_DUMP | request.flags, ++this.#sequence);
    request.write(this.#writer);
    this.#writer.end();
    send(this.#fd, this.#writer.bytes());
    const messages: Message[] = [];
    let disturbed = false;
    for (;;) {
      // A copy: the messages' payloads outlive the next receive.
      const packet = Buffer.from(this.#into.subarray(0, receive(this.#fd, this.#into)));
      for (const message of messagesOf(packet)) {
        if (message.sequence !== this.#sequence) continue;
        if (message.flags & NLM_F_DUMP_INTR) disturbed = true;
        if (message.type === NLMSG_DONE) return { messages, disturbed };
        if (message.type === NLMSG_ERROR) throw errorOf(message, request) ?? new KernelError(request.what);
        messages.push(message);
      }
    }
  }

  #exchange(batch: readonly Request[], done: Attempted): void {
    const first = this.#encode(batch);
    send(this.#fd, this.#writer.bytes());
    this.#collect(batch, first, done);
  }

  /** Errors come without being asked for; one acknowledgement at the end tells that all is done. */
  #encode(batch: readonly Request[]): number {
    const first = this.#sequence + 1;
    this.#writer.clear();
    batch.forEach((request, i) => {
      const ack = i === batch.length - 1 ? NLM_F_ACK : 0;
      this.#writer.begin(request.type, NLM_F_REQUEST | request.flags | ack, ++this.#sequence);
      request.write(this.#writer);
      this.#writer.end();
    });
    return first;
  }

  #collect(batch: readonly Request[], first: number, { answers, failures }: Attempted): void {
    for (;;) {
      const packet = Buffer.from(this.#into.subarray(0, receive(this.#fd, this.#into)));
      for (const message of messagesOf(packet)) {
        const request = batch[message.sequence - first];
        if (!request) continue;
        if (message.type !== NLMSG_ERROR) {
          answers.push(message);
          continue;
        }
        const error = errorOf(message, request);
        if (error && !request.expected?.includes(error.facts['errno'] as number))
          failures.set(request, error);
        if (message.sequence === this.#sequence) return;
      }
    }
  }

  [Symbol.dispose](): void {
    closeFd(this.#fd);
  }
}

let buffer: Buffer | undefined;
/** Conns of one thread receive one after the other, never at once. */
const sharedBuffer = () => {
  buffer ??= Buffer.alloc(RECEIVE_BYTES);
  return buffer;
};

/** struct nlmsgerr, with the kernel's text where it gives one; undefined for an acknowledgement. */
function errorOf(message: Message, { what }: Request): KernelError | undefined {
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
