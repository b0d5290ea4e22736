/** A CA for tests, with certificates of any life: `openssl` cannot make one that has expired. */
import 'reflect-metadata'; // what @peculiar/x509's own dependencies need before they are loaded
import type { webcrypto } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const HOUR_MS = 3_600_000;

export interface Pem {
  readonly cert: string;
  readonly key: string;
}

export interface Wish {
  /** Common name. */
  readonly name: string;
  /** Default an hour; negative: it has expired. */
  readonly livesMs?: number;
  /** Addresses and names of a server, default 127.0.0.1, ::1 and localhost. */
  readonly hosts?: readonly string[];
}

const newKeys = () => crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
const pemOf = async (key: webcrypto.CryptoKey) =>
  x509.PemConverter.encode(await crypto.subtle.exportKey('pkcs8', key), x509.PemConverter.PrivateKeyTag);

export class CertificateAuthority {
  /** PEM. */
  readonly ca: string;
  readonly #certificate: x509.X509Certificate;
  readonly #key: webcrypto.CryptoKey;

  private constructor(certificate: x509.X509Certificate, key: webcrypto.CryptoKey) {
    this.ca = certificate.toString('pem');
    this.#certificate = certificate;
    this.#key = key;
  }

  static async create(name = 'CN=test CA'): Promise<CertificateAuthority> {
    const keys = await newKeys();
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      name,
      keys,
      notBefore: new Date(Date.now() - HOUR_MS),
      notAfter: new Date(Date.now() + HOUR_MS),
      signingAlgorithm: ALGORITHM,
      extensions: [new x509.BasicConstraintsExtension(true, 0, true)],
    });
    return new CertificateAuthority(certificate, keys.privateKey);
  }

  /** A certificate for a server and a client alike: etcd's gateway uses its server's as a client's. */
  async issue({ name, livesMs = HOUR_MS, hosts = ['127.0.0.1', '::1', 'localhost'] }: Wish): Promise<Pem> {
    const keys = await newKeys();
    const names = hosts.map(value => ({ type: /^[\d.]+$|:/.test(value) ? 'ip' : 'dns', value }) as const);
    const certificate = await x509.X509CertificateGenerator.create({
      subject: `CN=${name}`,
      issuer: this.#certificate.subject,
      publicKey: keys.publicKey,
      signingKey: this.#key,
      notBefore: new Date(Date.now() - 2 * HOUR_MS),
      notAfter: new Date(Date.now() + livesMs),
      signingAlgorithm: ALGORITHM,
      extensions: [
        new x509.ExtendedKeyUsageExtension([
          x509.ExtendedKeyUsage.serverAuth,
          x509.ExtendedKeyUsage.clientAuth,
        ]),
        new x509.SubjectAlternativeNameExtension(names),
      ],
    });
    return { cert: certificate.toString('pem'), key: await pemOf(keys.privateKey) };
  }
}

/** Paths of `<stem>-ca.pem`, `<stem>-cert.pem` and `<stem>-key.pem`, written anew when they are there. */
export async function writePem(
  directory: string,
  stem: string,
  parts: Pem & { readonly ca: string },
): Promise<{ ca: string; cert: string; key: string }> {
  const paths = {
    ca: join(directory, `${stem}-ca.pem`),
    cert: join(directory, `${stem}-cert.pem`),
    key: join(directory, `${stem}-key.pem`),
  };
  for (const part of ['ca', 'cert', 'key'] as const)
    await writeFile(paths[part], parts[part], { mode: 0o600 });
  return paths;
}
