import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TlsFiles } from '../../listen/tls-files.js';
import { CertificateAuthority, writePem } from '../support/certificate-authority.js';

const NAMES = { ca: 'HTTP_TLS_CA', cert: 'HTTP_TLS_CERT', key: 'HTTP_TLS_KEY' };

let directory: string;
let authority: CertificateAuthority;
let paths: { ca: string; cert: string; key: string };

beforeAll(async () => {
  authority = await CertificateAuthority.create();
});
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sand-tls-files-'));
  paths = await writePem(directory, 'api', { ca: authority.ca, ...(await authority.issue({ name: 'ant' })) });
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const open = () => TlsFiles.open(paths, NAMES);
const emptyPem = (label: string) => `-----BEGIN ${label}-----\nAAAA\n-----END ${label}-----\n`;

describe('TlsFiles', () => {
  it('gives what the files hold, and says whose it is', () => {
    const files = open();
    expect(files.current().ca).toBe(authority.ca);
    expect(files.describe()).toMatchObject({
      certificate: 'CN=ant',
      valid_until: expect.stringMatching(/^20\d\d-.*Z$/),
      files: `${paths.ca}, ${paths.cert}, ${paths.key}`,
    });
  });

  it('takes a bundle of CAs, and text around PEM', async () => {
    const other = await CertificateAuthority.create('CN=other CA');
    writeFileSync(paths.ca, `# ours\n${authority.ca}\n\n# theirs\n${other.ca}\n`);
    expect(open().current().ca).toContain('# theirs');
  });

  const encrypted = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'secret' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });

  it.each<['ca' | 'cert' | 'key', string, string, RegExp]>([
    ['cert', 'no PEM', 'hello', /^HTTP_TLS_CERT: \/.*api-cert\.pem holds no certificate in PEM$/],
    ['cert', 'nothing', '', /^HTTP_TLS_CERT: .* holds no certificate in PEM$/],
    ['cert', 'PEM of nothing', emptyPem('CERTIFICATE'), /^HTTP_TLS_CERT: .*number 1, that is none$/],
    ['cert', 'a key', encrypted.privateKey, /^HTTP_TLS_CERT: .* holds no certificate in PEM$/],
    ['ca', 'no PEM', 'hello', /^HTTP_TLS_CA: \/.*api-ca\.pem holds no certificate in PEM$/],
    ['ca', 'PEM of nothing', emptyPem('CERTIFICATE'), /^HTTP_TLS_CA: .*number 1, that is none$/],
    ['key', 'no PEM', 'hello', /^HTTP_TLS_KEY: \/.*api-key\.pem holds no private key in PEM$/],
    ['key', 'PEM of nothing', emptyPem('PRIVATE KEY'), /^HTTP_TLS_KEY: .* holds no private key in PEM$/],
    [
      'key',
      'a locked key',
      encrypted.privateKey,
      /^HTTP_TLS_KEY: .* needs a passphrase; give a key without one$/,
    ],
  ])('of a %s file with %s says so in one line and names the setting', (part, _what, text, message) => {
    writeFileSync(paths[part], text);
    expect(open).toThrow(message);
    expect(open).toThrow(expect.objectContaining({ kind: 'invalid' }));
    expect(open).not.toThrow(/\n/);
  });

  it('refuses the key of another certificate, and a file that is gone', async () => {
    const other = await authority.issue({ name: 'bee' });
    writeFileSync(paths.key, other.key);
    expect(open).toThrow(/^HTTP_TLS_KEY: .* does not belong to the certificate beside it$/);
    rmSync(paths.key);
    expect(open).toThrow(/^HTTP_TLS_KEY: .* cannot be read \(ENOENT\)$/);
  });

  it('reload() gives new files to who listens; broken ones leave everything as it was', async () => {
    const files = open();
    const before = files.current();
    const seen: string[] = [];
    const end = files.onReload(({ cert }) => void seen.push(cert));
    writeFileSync(paths.cert, 'hello');
    expect(() => files.reload()).toThrow(/^HTTP_TLS_CERT/);
    expect([files.current(), seen]).toEqual([before, []]);

    const next = await authority.issue({ name: 'bee' });
    await writePem(directory, 'api', { ca: authority.ca, ...next });
    files.reload();
    expect([files.current().cert, seen]).toEqual([next.cert, [next.cert]]);
    end();
    files.reload();
    expect(seen).toHaveLength(1);
  });

  it('takes a CA alone, as a client without a certificate has it', () => {
    const files = TlsFiles.open({ ca: paths.ca }, NAMES);
    expect(files.current()).toEqual({ ca: authority.ca });
    expect(files.describe()['certificate']).toBe('CN=test CA');
  });
});
