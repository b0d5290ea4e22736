import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseIpAddress } from '../../model/scalars.js';
import { type CertificateFiles, ensureCertificates } from '../../store/certificates.js';
import { protect } from '../support/guardian.js';

const HERE = parseIpAddress('10.0.0.5');
const THERE = parseIpAddress('fd00::5');

let directory: string;
let protection: Awaited<ReturnType<typeof protect>>;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), `sand-tls-${process.pid}-`));
  protection = await protect({ directories: [directory] });
});
afterEach(async () => {
  await rm(directory, { recursive: true });
  protection.release();
});

const make = (address = HERE) => ensureCertificates(join(directory, 'tls'), address);

/** What the files hold, by the names of their paths. */
async function contentsOf(files: CertificateFiles): Promise<Record<keyof CertificateFiles, string>> {
  const read = Object.entries(files).map(
    async ([name, path]) => [name, await readFile(path, 'utf8')] as const,
  );
  return Object.fromEntries(await Promise.all(read)) as Record<keyof CertificateFiles, string>;
}

/** Throws unless the three pairs belong together and the server's certificate names the address. */
async function expectWhole(files: CertificateFiles, address: string): Promise<void> {
  const pem = await contentsOf(files);
  const ca = new X509Certificate(pem.ca);
  for (const [cert, key] of [
    [pem.ca, pem.caKey],
    [pem.serverCert, pem.serverKey],
    [pem.clientCert, pem.clientKey],
  ] as const) {
    const certificate = new X509Certificate(cert);
    expect(certificate.checkPrivateKey(createPrivateKey(key))).toBe(true);
    expect(certificate.checkIssued(ca) && certificate.verify(ca.publicKey)).toBe(true);
  }
  expect(new X509Certificate(pem.serverCert).checkIP(address)).toBe(address);
}

describe('ensureCertificates()', () => {
  it('makes a CA for ten years, and a server and a client of it, each for its own use', async () => {
    const files = await make();
    await expectWhole(files, HERE);
    const pem = await contentsOf(files);
    const ca = new X509Certificate(pem.ca);
    const years = (Date.parse(ca.validTo) - Date.now()) / (365.25 * 24 * 3_600_000);
    expect(years).toBeGreaterThan(9.9);
    expect(years).toBeLessThan(10.1);
    expect([ca.ca, new X509Certificate(pem.serverCert).ca, new X509Certificate(pem.clientCert).ca]).toEqual([
      true,
      false,
      false,
    ]);
    expect(new X509Certificate(pem.serverCert).keyUsage).toContain('1.3.6.1.5.5.7.3.1'); // RFC 5280: serverAuth
    expect(new X509Certificate(pem.clientCert).keyUsage).toEqual(['1.3.6.1.5.5.7.3.2']); // clientAuth
    expect(createPrivateKey(pem.clientKey).asymmetricKeyDetails).toMatchObject({ namedCurve: 'prime256v1' });
  });

  it('lets the owner alone read what it wrote, and leaves nothing else', async () => {
    const files = await make();
    expect((await stat(join(directory, 'tls'))).mode & 0o777).toBe(0o700);
    for (const path of Object.values(files)) expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readdir(join(directory, 'tls'))).toHaveLength(Object.keys(files).length);
  });

  it('keeps all of it over a restart', async () => {
    const before = await contentsOf(await make());
    expect(await contentsOf(await make())).toEqual(before);
  });

  it('makes only the server anew when the address changes, so that joined hosts stay', async () => {
    const before = await contentsOf(await make());
    const files = await make(THERE);
    await expectWhole(files, THERE);
    const { serverCert: _, serverKey: __, ...rest } = await contentsOf(files);
    expect(before).toMatchObject(rest);
  });

  it.each(['serverCert', 'serverKey', 'clientCert', 'clientKey'] as const)(
    'makes %s anew when a crash cut it short',
    async name => {
      const files = await make();
      const { ca } = await contentsOf(files);
      await truncate(files[name], 0);
      await expectWhole(await make(), HERE);
      expect((await contentsOf(files)).ca).toBe(ca);
    },
  );

  it('makes a pair anew when a crash left the key of another', async () => {
    const files = await make();
    await writeFile(files.serverKey, await readFile(files.clientKey));
    await expectWhole(await make(), HERE);
  });

  it.each(['ca', 'caKey'] as const)('makes everything anew when %s is lost', async name => {
    const files = await make();
    await rm(files[name]);
    await expectWhole(await make(), HERE);
  });
});
