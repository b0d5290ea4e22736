/** The errors of a client: the six kinds of SAND, with what the agent answered. */
import * as model from '../../model/errors.js';

type ErrorClass<Kind extends model.ErrorKind> = new (
  ...args: ConstructorParameters<typeof model.SandError>
) => Error & { readonly kind: Kind; readonly facts: model.Facts };

function answered<Kind extends model.ErrorKind>(Base: ErrorClass<Kind>) {
  return class extends Base {
    /** HTTP's status; undefined when no agent answered, or none was asked. */
    status: number | undefined;
    /** The agent's word for the kind. */
    get code(): Kind {
      return this.kind;
    }
    /** Facts of the refusal: `field`, `network_id` and the like. */
    get details(): model.Facts {
      return this.facts;
    }
  };
}

/** The request is malformed; `details.field` names what. */
export class InvalidError extends answered(model.InvalidError) {}
export class NotFoundError extends answered(model.NotFoundError) {}
/** Another object stands in the way. */
export class ConflictError extends answered(model.ConflictError) {}
/** A pool, the VNI range or a kernel table is full. */
export class ExhaustedError extends answered(model.ExhaustedError) {}
/** Agent, etcd or the target of a connection does not answer; the same call may succeed later. */
export class UnavailableError extends answered(model.UnavailableError) {}
/** The agent's kernel refused. */
export class KernelError extends answered(model.KernelError) {}

export type ClientError =
  | InvalidError
  | NotFoundError
  | ConflictError
  | ExhaustedError
  | UnavailableError
  | KernelError;

const CLASSES: Readonly<Record<model.ErrorKind, new (message: string, facts: model.Facts) => ClientError>> = {
  invalid: InvalidError,
  'not-found': NotFoundError,
  conflict: ConflictError,
  exhausted: ExhaustedError,
  unavailable: UnavailableError,
  kernel: KernelError,
};

/** Agents of the original give a status and no code. */
function kindOf(status: number): model.ErrorKind {
  if (status === 404) return 'not-found';
  if (status === 409) return 'conflict';
  return status < 500 ? 'invalid' : 'unavailable';
}

interface ErrorBody {
  readonly error?: unknown;
  readonly code?: unknown;
  readonly details?: unknown;
}

function parseBody(text: string): ErrorBody {
  try {
    // From brace to brace: the answer to a CONNECT is read raw, and may come in one chunk with its frame.
    return JSON.parse(text.slice(text.indexOf('{'), text.lastIndexOf('}') + 1)) as ErrorBody;
  } catch {
    return {};
  }
}

/** The error that an answer stands for. @param request for a message where the answer has none: `GET /version` */
export function refusal(request: string, status: number, text: string): ClientError {
  const { error, code, details } = parseBody(text);
  const message = typeof error === 'string' ? error : `${request} was answered with status ${status}`;
  const known = typeof code === 'string' && Object.hasOwn(CLASSES, code);
  const Kind = CLASSES[known ? (code as model.ErrorKind) : kindOf(status)];
  const facts = typeof details === 'object' && details !== null ? (details as model.Facts) : {};
  return Object.assign(new Kind(message, facts), { status });
}

/** A system error in words: of several addresses tried, each one's. */
export function reasonOf(error: Error): string {
  return error instanceof AggregateError
    ? error.errors.map(each => (each as Error).message).join(', ')
    : error.message;
}
