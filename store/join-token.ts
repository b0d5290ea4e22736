import type { StoreTls } from './client.js';
export interface EtcdAddress {
  readonly hosts: readonly string[];
  readonly tls?: StoreTls;
}
export const parseEtcdHosts = (value: string): EtcdAddress => ({ hosts: value.split(',') });
