/** The bytes of a tunnel: two sockets of which each side may finish writing first. */
import type { Socket } from 'node:net';

// Chosen by us.
const HOLD_MS = 20; // Go clients drop what arrives in the same read as the answer's head
const KEEP_ALIVE_MS = 60_000; // with the kernel's 9 probes, 75 s apart, a peer without power is noticed in 12 minutes
const HALF_CLOSED_IDLE_MS = 600_000; // ten times what proxies give a server for its answer (nginx: 60 s)

const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n';

/** Answers the client and passes bytes both ways. Both sockets must allow half-open and have a listener of errors. */
export function openTunnel(client: Socket, target: Socket, halfClosedIdleMs = HALF_CLOSED_IDLE_MS): void {
  for (const socket of [client, target]) {
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    // A side that never ends, after the other has, would hold the line for ever.
    socket.once('end', () => {
      limit(client, halfClosedIdleMs);
      limit(target, halfClosedIdleMs);
    });
  }
  follow(client, target);
  follow(target, client);
  client.pipe(target);
  client.write(HEAD, () => setTimeout(() => target.pipe(client), HOLD_MS));
}

function limit(socket: Socket, idleMs: number): void {
  socket.setTimeout(idleMs);
  socket.once('timeout', () => abort(socket));
}

/** How one side ends, the other does: in order once all has been passed on, by a reset where something is lost. */
function follow(one: Socket, other: Socket): void {
  one.once('close', () => (one.readableEnded ? other.destroySoon() : abort(other)));
}

/** Ends a socket at once: a plain end would say that what was sent is whole. Only TCP knows more. */
export function abort(socket: Socket): void {
  try {
    socket.resetAndDestroy();
  } catch {
    socket.destroy();
  }
}
