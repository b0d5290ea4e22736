import type { Logger } from '../model/log.js';
import type { IpAddress } from '../model/scalars.js';
import type { EtcdAddress } from './join-token.js';
export class EmbeddedEtcd implements AsyncDisposable {
  readonly address: EtcdAddress = { hosts: [] };
  readonly joinCommand: string | undefined;
  static hasData = (_dir: string) => false;
  static async start(_o: { stateDir: string; log: Logger; listen?: IpAddress }): Promise<EmbeddedEtcd> {
    throw new Error('stub');
  }
  async [Symbol.asyncDispose]() {}
}
