/** `serve PORT`: answers every byte with itself. `send ADDRESS PORT`: numbered lines, and prints the answers. */
import { connect, createServer } from 'node:net';

const LINE_BYTES = 1_000; // one packet each, also where an interface's MTU is above the network's
const EVERY_MS = 10;

const [role, ...rest] = process.argv.slice(2);
if (role === 'serve') createServer({ noDelay: true }, socket => socket.pipe(socket)).listen(Number(rest[0]));
else send(rest[0] ?? '', Number(rest[1]));

function send(address: string, port: number): void {
  const socket = connect({ host: address, port, noDelay: true });
  let sent = 0;
  socket.once('connect', () => {
    setInterval(() => socket.write(`${String(sent++).padEnd(LINE_BYTES - 1, '.')}\n`), EVERY_MS);
  });
  socket.pipe(process.stdout);
  socket.once('close', () => process.exit(1));
}
