import fc from 'fast-check';
import { addressTaken } from '../../ipam/changes.js';
import type { AddressOwner } from '../../model/records.js';
import type { IpAddress, NetworkId } from '../../model/scalars.js';
import { type AddressAgent, makeNetwork, readPool } from '../support/address-agent.js';
import { AddressLab, ip } from '../support/address-lab.js';
import { textOf } from '../support/bit-set.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

const lab = AddressLab.open();

/** The pool of a /24 as somebody else wrote it. */
async function storePool({ keys }: AddressAgent, id: NetworkId, taken: readonly number[]): Promise<void> {
  const range = { address_range: '10.0.0.0/24', address_count: 256 };
  await lab.etcd.ctl('put', keys.pool(id), JSON.stringify({ id, ...range, bit_set: textOf(256, taken) }));
}

describe('commit() of many callers', () => {
  it('gives 64 racing callers on 3 agents 64 addresses, none of them after more than 2 s', async () => {
    const hosts = [lab.agent(), lab.agent(), lab.agent()];
    const id = await makeNetwork(lab.agent(), '10.0.0.0/24');
    const waits: number[] = [];
    const got = await Promise.all(
      Array.from({ length: 64 }, async (_, n) => {
        const before = performance.now();
        const address = await (hosts[n % 3] as AddressAgent).take(id);
        waits.push(performance.now() - before);
        return address;
      }),
    );
    expect(new Set(got).size).toBe(64);
    expect(Math.max(...waits)).toBeLessThan(2_000);
    expect([...(await lab.expectConsistent(id, '10.0.0.0/24'))].sort()).toEqual(got.sort());
  });

  it('gives 16 agents with one caller each their addresses again and again, and refuses none', async () => {
    const hosts = Array.from({ length: 16 }, () => lab.agent());
    const id = await makeNetwork(lab.agent(), '10.0.0.0/22');
    const got = await Promise.all(
      hosts.map(async host => {
        const mine: IpAddress[] = [];
        for (let n = 0; n < 12; n++) {
          mine.push(await host.take(id)); // refused after 6 s
        }
        return mine;
      }),
    );
    expect(new Set(got.flat()).size).toBe(16 * 12);
    await lab.expectConsistent(id, '10.0.0.0/22');
  });

  it('gives spares back by itself when the rush is over', async () => {
    const hosts = [lab.agent(), lab.agent(), lab.agent(), lab.agent()];
    const [a] = hosts as [AddressAgent];
    const id = await makeNetwork(a, '10.0.0.0/24');
    await until(
      async () => {
        const taken = await Promise.all(hosts.map(host => host.take(id)));
        await Promise.all(hosts.map((host, n) => host.free(id, taken[n] as IpAddress)));
        return (await readPool(lab.etcd, a.keys, id)).spares.length > 0;
      },
      { timeoutMs: 20_000, what: 'contention has made spares' },
    );
    await until(async () => (await readPool(lab.etcd, a.keys, id)).spares.length === 0, {
      timeoutMs: 10_000,
      what: 'all spares are back',
    });
    expect((await readPool(lab.etcd, a.keys, id)).taken).toEqual([0, 1, 255]);
  });

  it('gives a free address again when it is wanted by name, also out of a spare', async () => {
    const [a, b] = [lab.agent('ant'), lab.agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/24');
    await lab.etcd.ctl(
      'put',
      a.keys.addressSpare(id, 'bee' as never),
      '{"addresses":["10.0.0.9","10.0.0.10"]}',
    );
    await storePool(a, id, [0, 1, 9, 10, 255]);
    expect(await a.take(id, ip('10.0.0.9'))).toBe('10.0.0.9');
    expect(await b.take(id)).toBe('10.0.0.10');
    expect(await b.take(id)).toBe('10.0.0.2');
    await lab.expectConsistent(id, '10.0.0.0/24');
  });

  it('gives nobody a spare that has an owner', async () => {
    const [a, b] = [lab.agent('ant'), lab.agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/24');
    const address = await a.take(id);
    const owner = await lab.etcd.get(a.keys.addressOwner(id, address));
    await lab.etcd.ctl('put', a.keys.addressSpare(id, b.host), JSON.stringify({ addresses: [address] }));
    expect(await b.take(id)).toBe('10.0.0.3');
    expect(await lab.etcd.get(a.keys.addressOwner(id, address))).toBe(owner);
    expect([...(await lab.expectConsistent(id, '10.0.0.0/24'))].sort()).toEqual([address, '10.0.0.3']);
  });

  it('lets one of 30 callers have a given address', async () => {
    const hosts = [lab.agent(), lab.agent(), lab.agent()];
    const id = await makeNetwork(lab.agent(), '10.0.0.0/24');
    const results = await Promise.allSettled(
      Array.from({ length: 30 }, (_, n) => (hosts[n % 3] as AddressAgent).take(id, ip('10.0.0.50'))),
    );
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const result of results) {
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ kind: 'conflict' });
    }
    expect(await lab.expectConsistent(id, '10.0.0.0/24')).toEqual(['10.0.0.50']);
  });
});

describe('what the pool does not say', () => {
  it('an address of a living endpoint and the gateway are not given away when their bits are cleared, and set again', async () => {
    const a = lab.agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    const endpoint = `${lab.prefix}/network-endpoints/${id}/made-by-the-original`;
    await lab.etcd.ctl('put', endpoint, '{}');
    a.bearers.set(ip('10.0.0.1'), a.keys.network(id)).set(ip('10.0.0.2'), endpoint);
    await storePool(a, id, [0, 255]);
    await expect(a.take(id, ip('10.0.0.2'))).rejects.toMatchObject({ kind: 'conflict' });
    expect(await a.take(id)).toBe('10.0.0.3');
    expect((await readPool(lab.etcd, a.keys, id)).taken).toEqual([0, 1, 2, 3, 255]);
  });

  it('an address whose owner key stands is not given away when its bit is cleared', async () => {
    const a = lab.agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    await a.take(id);
    await storePool(a, id, [0, 1, 255]);
    const b = lab.agent();
    expect(await b.take(id)).toBe('10.0.0.3');
    expect(await a.take(id)).toBe('10.0.0.4');
    expect([...(await lab.expectConsistent(id, '10.0.0.0/24'))].sort()).toEqual([
      '10.0.0.2',
      '10.0.0.3',
      '10.0.0.4',
    ]);
  });

  it('an address that the mirror still takes for borne is given when the record is gone, by name and as the lowest', async () => {
    const a = lab.agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    for (const n of [2, 3])
      a.bearers.set(ip(`10.0.0.${n}`), `${lab.prefix}/network-endpoints/${id}/gone-${n}`);
    expect(await a.take(id, ip('10.0.0.3'))).toBe('10.0.0.3');
    expect(await a.take(id)).toBe('10.0.0.2');
    await lab.expectConsistent(id, '10.0.0.0/24');
  });

  it('an address that another host had when we looked, and has freed since, is given again and leaks no bit', async () => {
    const [a, b] = [lab.agent('ant'), lab.agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/24');
    const address = await b.take(id);
    await expect(a.take(id, address)).rejects.toMatchObject({ kind: 'conflict' }); // now A knows the owner
    await a.take(id);
    await b.free(id, address);
    expect(await a.take(id)).toBe(address);
    await lab.expectConsistent(id, '10.0.0.0/24');
  });

  it('a stale refusal in a group that has a success beside it is looked at again', async () => {
    const [a, b] = [lab.agent('ant'), lab.agent('bee')];
    const id = await makeNetwork(a, '10.0.0.0/24');
    const address = await b.reserve(id, ip('10.0.0.9'));
    const first = await a.take(id);
    await expect(a.take(id, address)).rejects.toMatchObject({ kind: 'conflict' });
    await a.free(id, first);
    await b.free(id, address);
    expect(await Promise.all([a.take(id), a.take(id, address)])).toEqual(['10.0.0.2', '10.0.0.9']);
    await lab.expectConsistent(id, '10.0.0.0/24');
  });

  it('the bit of an address that another record bears too stays set when the first goes', async () => {
    const a = lab.agent();
    const id = await makeNetwork(a, '10.0.0.0/24');
    const address = await a.take(id);
    const other = `${lab.prefix}/network-endpoints/${id}/made-by-the-original`;
    await lab.etcd.ctl('put', other, '{}');
    a.bearers.set(address, other);
    await a.free(id, address);
    expect((await readPool(lab.etcd, a.keys, id)).taken).toContain(2);
    expect(await a.take(id)).toBe('10.0.0.3');
  });
});

describe('when etcd does not answer', () => {
  /** Sends one change whose answer is lost, and cuts the line when etcd has carried it out. */
  async function loseAnswer<T>(
    proxy: TcpProxy,
    done: () => Promise<unknown>,
    send: () => Promise<T>,
  ): Promise<T> {
    proxy.swallowAnswers();
    const answer = send();
    await until(done, { what: 'etcd has carried it out' });
    proxy.blink();
    return answer;
  }

  it('recognises its own first try of a take whose answer was lost, and makes it known once', async () => {
    await using proxy = await TcpProxy.open(lab.etcd.hosts[0] ?? '');
    const a = lab.agent('ant', [proxy.url]);
    const id = await makeNetwork(a, '10.0.0.0/24');
    await a.take(id);
    const owner = a.keys.addressOwner(id, ip('10.0.0.3'));
    const known = a.commits.length;
    expect(
      await loseAnswer(
        proxy,
        () => lab.etcd.get(owner),
        () => a.take(id),
      ),
    ).toBe('10.0.0.3');
    expect([...(await lab.expectConsistent(id, '10.0.0.0/24'))].sort()).toEqual(['10.0.0.2', '10.0.0.3']);
    expect(a.commits).toHaveLength(known + 1);
    const made = a.commits.at(-1)?.writes.flatMap(write => ('put' in write ? [write.put] : [])) ?? [];
    for (const key of made) expect(await lab.etcd.get(key)).toBeDefined();
    expect(made.filter(key => key.includes('/records/'))).toHaveLength(3);
  });

  it('frees once when the answer of a free was lost', async () => {
    await using proxy = await TcpProxy.open(lab.etcd.hosts[0] ?? '');
    const a = lab.agent('ant', [proxy.url]);
    const b = lab.agent('bee');
    const id = await makeNetwork(b, '10.0.0.0/24');
    const address = await a.take(id);
    const gone = async () => (await lab.etcd.get(a.keys.addressOwner(id, address))) === undefined;
    const takenByB = async () => (await gone()) && (await b.take(id)) === address;
    await loseAnswer(proxy, takenByB, () => a.free(id, address));
    expect(await lab.expectConsistent(id, '10.0.0.0/24')).toEqual([address]);
  });

  it('does not give an address back twice, when another host took it ahead of need meanwhile', async () => {
    await using proxy = await TcpProxy.open(lab.etcd.hosts[0] ?? '');
    const a = lab.agent('ant', [proxy.url]);
    const b = lab.agent('bee');
    const id = await makeNetwork(b, '10.0.0.0/24');
    const address = await a.take(id);
    const record = `${lab.prefix}/record-of-the-endpoint`;
    await lab.etcd.ctl('put', record, '{}');
    const from = (owner: AddressOwner | undefined) =>
      owner && owner.hostname !== a.host ? addressTaken(address, id, owner) : undefined;
    const step = { kind: 'free', address, record, from } as const;
    const takenAhead = async () => {
      if ((await lab.etcd.get(record)) !== undefined) return false;
      await storePool(a, id, [0, 1, 2, 255]);
      await lab.etcd.ctl('put', a.keys.addressSpare(id, b.host), JSON.stringify({ addresses: [address] }));
      return true;
    };
    const writes = () => [{ delete: record }];
    await loseAnswer(proxy, takenAhead, () => a.free(id, address, { step, writes }));
    expect(await a.take(id)).toBe('10.0.0.3');
    expect(await b.take(id)).toBe(address);
    expect([...(await lab.expectConsistent(id, '10.0.0.0/24'))].sort()).toEqual([address, '10.0.0.3']);
  });

  it('gives an address back that has a record and no owner, as agents of the original leave it', async () => {
    const a = lab.agent('ant');
    const id = await makeNetwork(a, '10.0.0.0/24');
    const record = `${lab.prefix}/record-of-the-endpoint`;
    await lab.etcd.ctl('put', record, '{}');
    await storePool(a, id, [0, 1, 2, 255]);
    const step = { kind: 'free', address: ip('10.0.0.2'), record, from: () => undefined } as const;
    await a.free(id, ip('10.0.0.2'), { step, writes: () => [{ delete: record }] });
    expect(await lab.expectConsistent(id, '10.0.0.0/24')).toEqual([]);
  });

  it('gives a group of callers what their lost answer said', async () => {
    await using proxy = await TcpProxy.open(lab.etcd.hosts[0] ?? '');
    const a = lab.agent('ant', [proxy.url]);
    const id = await makeNetwork(a, '10.0.0.0/24');
    const done = async () => (await lab.etcd.keys(a.keys.addressOwners(id))).length > 0;
    await a.free(id, await a.take(id));
    const got = await loseAnswer(proxy, done, () =>
      Promise.all(Array.from({ length: 20 }, () => a.take(id))),
    );
    expect(new Set(got).size).toBe(20);
    expect([...(await lab.expectConsistent(id, '10.0.0.0/24'))].sort()).toEqual(got.sort());
  });

  it('answers every caller while etcd is killed and comes back, and loses and doubles nothing', async () => {
    const hosts = [lab.agent(), lab.agent(), lab.agent()];
    const id = await makeNetwork(lab.agent(), '10.0.0.0/23');
    const mine = new Set<IpAddress>();
    let killed = false;
    const callers = hosts.map(async host => {
      for (let n = 0; n < 60; n++) {
        if (n === 20 && !killed) {
          killed = true;
          await lab.etcd.kill();
          await lab.etcd.restart();
        }
        await host.take(id).then(
          address => {
            expect(mine).not.toContain(address);
            mine.add(address);
          },
          error => expect(error).toMatchObject({ kind: 'unavailable' }),
        );
      }
    });
    await Promise.all(callers);
    const owners = await lab.expectConsistent(id, '10.0.0.0/23');
    expect(owners).toEqual(expect.arrayContaining([...mine]));
  }, 60_000);
});

describe('any sequence of changes on two agents', () => {
  const step = fc.record({
    by: fc.integer({ min: 0, max: 1 }),
    kind: fc.constantFrom('lowest', 'lowest', 'given', 'free', 'free-other'),
    n: fc.integer({ min: 0, max: 15 }),
  });
  type StepOf = { readonly by: number; readonly kind: string; readonly n: number };

  it('ends with the bits of the ends, the gateway and the owners, and no address twice', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(step, { minLength: 1, maxLength: 8 }), { maxLength: 8 }),
        async batches => {
          const hosts = [lab.agent(), lab.agent()] as const;
          const id = await makeNetwork(hosts[0], '10.0.0.0/28');
          const held = [new Set<IpAddress>(), new Set<IpAddress>()] as const;
          const carryOut = async ({ by, kind, n }: StepOf) => {
            const host = by === 0 ? hosts[0] : hosts[1];
            const [own, others] = by === 0 ? held : [held[1], held[0]];
            if (kind.startsWith('free')) {
              // Freeing what another host holds changes nothing.
              const among = kind === 'free' ? own : others;
              const address = [...among][n % Math.max(among.size, 1)];
              if (address === undefined) return;
              own.delete(address);
              await host.free(id, address);
            } else {
              const got = await host.take(id, kind === 'given' ? ip(`10.0.0.${n}`) : 'lowest');
              for (const each of held) expect(each).not.toContain(got);
              own.add(got);
            }
          };
          for (const batch of batches) {
            // What another host holds is known only when nothing is under way: it may be ours a moment later.
            const isQuiet = ({ kind }: StepOf) => kind === 'free-other';
            const results = await Promise.allSettled(batch.filter(at => !isQuiet(at)).map(carryOut));
            for (const late of batch.filter(isQuiet)) await carryOut(late);
            for (const result of results) {
              if (result.status === 'rejected' && !('kind' in result.reason)) throw result.reason;
            }
          }
          const owners = await lab.expectConsistent(id, '10.0.0.0/28');
          expect([...owners].sort()).toEqual([...held[0], ...held[1]].sort());
          await lab.disposeAgents();
        },
      ),
      { numRuns: 30 },
    );
  }, 120_000);
});
