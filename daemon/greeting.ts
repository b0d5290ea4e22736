/** What `make up` ends with: the commands to type next. */
import { connect } from 'node:net';
import { type Config, dockerSocketOf } from './settings.js';

function dockerAnswers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path, () => resolve(true));
    socket.on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}

export async function greeting(config: Config): Promise<string> {
  const start = (await dockerAnswers(dockerSocketOf(config)))
    ? []
    : ['Docker does not answer on this machine. Start it first, in another terminal:', '', '  dockerd', ''];
  return [
    '',
    `SAND is up: driver "sand" at ${config.pluginSocket}, API at ${config.httpTlsCert ? 'https' : 'http'}://localhost:${config.httpPort}.`,
    '',
    ...start,
    'Type next, in another terminal:',
    '',
    '  docker network create --driver sand --ipam-driver null --opt sand-name=shop shop',
    '  docker run -d --name one --network shop busybox sleep 1d',
    '  docker run --rm --network shop busybox ping -c 3 one',
    '',
    'Ctrl-C stops the agent; containers keep their network.',
    '',
  ].join('\n');
}
