/** Networks by what they are called and numbered. Neither is unique where agents of the original had a hand in it. */
import { VniMap } from '../ipam/vni.js';
import { FewPerKey } from '../model/few-per-key.js';
import type { NetworkRecord } from '../model/records.js';
import type { NetworkId } from '../model/scalars.js';

export class NetworkIndex {
  readonly names = new FewPerKey<string, NetworkId>();
  readonly vnis = new VniMap();

  replace(before: NetworkRecord | undefined, after: NetworkRecord | undefined): void {
    if (before) {
      this.vnis.remove(before.vxlan_vni, before.id);
      this.names.remove(before.name, before.id);
    }
    if (!after) return;
    this.vnis.add(after.vxlan_vni, after.id);
    this.names.add(after.name, after.id);
  }
}
