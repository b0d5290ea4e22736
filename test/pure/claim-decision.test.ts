import { decideClaim, decideHeld, recordAfterClaim } from '../../engine/claim-decision.js';
import { HostsSeen } from '../../engine/hosts-seen.js';
import { HostRecord, type Presence } from '../../model/host-record.js';
import { parseHostName, parseIpAddress } from '../../model/scalars.js';
import { LogBook } from '../support/log-book.js';

const ANT = parseHostName('ant');
const SELF = { id: 'i1', instance: 'p1' };
const presence = (rest: Partial<Presence> = {}): Presence => ({
  hostname: ANT,
  identity: 'i1',
  instance: 'p1',
  vtep: parseIpAddress('10.0.0.1'),
  ...rest,
});
const OTHER = presence({ identity: 'i2', instance: 'p2' });
const CLONE = presence({ instance: 'p2' });
const LEFT = { left_at: '2024-01-01T00:00:00Z' };

describe('decideClaim()', () => {
  it.each([
    ['nobody', undefined, 'first', 'claim'],
    ['nobody', undefined, 'again', 'claim'],
    ['itself', presence(), 'again', 'claim'],
    ['a crashed process of its identity', CLONE, 'first', 'claim'],
    ['a newer process of its identity', CLONE, 'again', 'refused'],
    ['another identity', OTHER, 'first', 'refused'],
    ['another identity', OTHER, 'again', 'refused'],
    ['another identity that has stopped', { ...OTHER, ...LEFT }, 'first', 'claim'],
    ['a newer process of its identity that has stopped', { ...CLONE, ...LEFT }, 'again', 'claim'],
  ] as const)('held by %s (%#): decides', (_holder, found, round, kind) => {
    expect(decideClaim(ANT, SELF, found, round).kind).toBe(kind);
  });
});

describe('decideHeld()', () => {
  const held = { revision: 7 };
  it('is held while the key is as this process wrote it', () => {
    expect(decideHeld(ANT, SELF, held, { record: presence(), revision: 7 })).toBe('held');
  });
  it.each([
    ['the key is gone', undefined],
    ['etcd was restored from before', { record: presence(), revision: 3 }],
  ])('is lost, to be claimed again, when %s', (_what, now) => {
    expect(decideHeld(ANT, SELF, held, now)).toBe('lost');
  });
  it.each([OTHER, CLONE])('is refused when somebody else has it (%#)', record => {
    const verdict = decideHeld(ANT, SELF, held, { record, revision: 8 });
    expect(verdict).toMatchObject({ kind: 'conflict', facts: { identity: record.identity } });
  });
});

describe('recordAfterClaim()', () => {
  const own = {
    hostname: ANT,
    identity: 'i1',
    vtep: parseIpAddress('10.0.0.1'),
    api_hostname: '',
    version: 'v1',
  };
  const before = HostRecord.parse({
    ...own,
    since: 'then',
    draining_since: 'later',
    removed_at: 'at last',
  });
  const now = new Date('2024-05-05T05:05:05Z');

  it('ends a removal and keeps a drain', () => {
    expect(recordAfterClaim(before, own, now)).toEqual({ ...own, since: 'then', draining_since: 'later' });
  });
  it('begins anew with another identity', () => {
    const after = recordAfterClaim({ ...before, identity: 'i2' }, own, now);
    expect(after).toEqual({ ...own, since: now.toISOString(), draining_since: 'later' });
  });
});

describe('HostsSeen', () => {
  const record = { hostname: 'ant', identity: 'i1', vtep: '10.0.0.1', since: 'then' };
  const put = (hosts: HostsSeen, family: 'host' | 'presence', value: object) =>
    hosts.put(
      { family, hostname: ANT },
      { key: family, value: JSON.stringify(value), createRevision: 1, modRevision: 1 },
    );

  it.each([
    [[], 'unknown', false],
    [['host'], 'gone', false],
    [['host', 'presence'], 'living', false],
    [['host', 'left'], 'living', false],
    [['removed'], 'removed', true],
    [['removed', 'presence'], 'living', false],
    [['removed', 'left'], 'removed', true],
  ] as const)('takes a host with %j for %s, cut off: %s', (parts, state, cutOff) => {
    using hosts = new HostsSeen(new LogBook());
    for (const part of parts) {
      if (part === 'host') put(hosts, 'host', record);
      else if (part === 'removed') put(hosts, 'host', { ...record, removed_at: 'now' });
      else put(hosts, 'presence', { ...presence(), ...(part === 'left' ? LEFT : {}) });
    }
    expect([hosts.state(ANT), hosts.isCutOff(ANT)]).toEqual([state, cutOff]);
  });
});
