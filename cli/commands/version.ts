import { command } from '../command.js';
import { ownVersion } from '../own-version.js';

export const version = command({
  name: 'version',
  summary: 'Show the versions of this program and of the agent',
  flags: {},
  example: ['version', 'two lines'],
  async run({ client, output }) {
    const own = ownVersion();
    const show = (agent: string | null) =>
      output.show({
        value: { client: own, server: agent },
        lines: [`Client version: ${own}`, ...(agent ? [`Server version: ${agent}`] : [])],
        table: { head: ['CLIENT', 'SERVER'], rows: [[own, agent ?? '']] },
      });
    try {
      await show(await client.version());
    } catch (error) {
      await show(null);
      throw error;
    }
  },
});
