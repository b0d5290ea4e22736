/** The certificates of an embedded etcd that other hosts join: a CA, a server's and a client's, made once and kept. */
// What @peculiar/x509's own dependencies need before they are loaded.
import 'reflect-metadata';
import { createPrivateKey, type webcrypto, X509Certificate } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';
import type { IpAddress } from '../model/scalars.js';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
// Chosen: the life of an installation. Whoever wants to rotate removes the files.
const YEARS = 10;
const YEAR_MS = 365.25 * 24 * 3_600_000;

/** Paths of PEM files, 0600. */
export interface CertificateFiles {
  readonly ca: string;
  readonly caKey: string;
  readonly serverCert: string;
  readonly serverKey: string;
  readonly clientCert: string;
  readonly clientKey: string;
}

interface Issuer {
  readonly certificate: x509.X509Certificate;
  readonly key: webcrypto.CryptoKey;
}

/** Makes what is missing; the server's certificate anew when it does not name `address`. */
export async function ensureCertificates(directory: string, address: IpAddress): Promise<CertificateFiles> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const file = (name: string) => join(directory, name);
  const files: CertificateFiles = {
    ca: file('ca.pem'),
    caKey: file('ca-key.pem'),
    serverCert: file('server.pem'),
    serverKey: file('server-key.pem'),
    clientCert: file('client.pem'),
    clientKey: file('client-key.pem'),
  };
  const issuer = await ensureIssuer(files);
  const server = [files.serverCert, files.serverKey] as const;
  if (findPair(server, files.ca)?.checkIP(address) === undefined) {
    await issue(issuer, 'SAND etcd', server, address);
  }
  const client = [files.clientCert, files.clientKey] as const;
  if (!findPair(client, files.ca)) await issue(issuer, 'SAND agent', client, undefined);
  return files;
}

/** The certificate, if it and its key are there, belong together and come from this CA: a crash leaves halves. */
function findPair(
  [certPath, keyPath]: readonly [string, string],
  caPath: string,
): X509Certificate | undefined {
  try {
    const certificate = new X509Certificate(readFileSync(certPath));
    const ours = certificate.verify(new X509Certificate(readFileSync(caPath)).publicKey);
    return ours && certificate.checkPrivateKey(createPrivateKey(readFileSync(keyPath)))
      ? certificate
      : undefined;
  } catch {
    return undefined;
  }
}

async function ensureIssuer(files: CertificateFiles): Promise<Issuer> {
  if (findPair([files.ca, files.caKey], files.ca)) {
    const [key] = x509.PemConverter.decode(readFileSync(files.caKey, 'utf8'));
    const imported = await crypto.subtle.importKey('pkcs8', key ?? new ArrayBuffer(0), ALGORITHM, true, [
      'sign',
    ]);
    return { certificate: new x509.X509Certificate(readFileSync(files.ca, 'utf8')), key: imported };
  }
  const keys = await newKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...common('CN=SAND CA'),
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  });
  await save(files.caKey, await pemKey(keys.privateKey));
  await save(files.ca, certificate.toString('pem'));
  return { certificate, key: keys.privateKey };
}

async function issue(
  issuer: Issuer,
  name: string,
  [certPath, keyPath]: readonly [string, string],
  address: IpAddress | undefined,
): Promise<void> {
  const keys = await newKeys();
  // etcd's gateway uses the server's certificate as a client's too.
  const usages = address
    ? [x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]
    : [x509.ExtendedKeyUsage.clientAuth];
  const certificate = await x509.X509CertificateGenerator.create({
    ...common(`CN=${name}`),
    issuer: issuer.certificate.subject,
    publicKey: keys.publicKey,
    signingKey: issuer.key,
    extensions: [
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(usages),
      ...(address ? [new x509.SubjectAlternativeNameExtension([{ type: 'ip', value: address }])] : []),
    ],
  });
  await save(keyPath, await pemKey(keys.privateKey));
  await save(certPath, certificate.toString('pem'));
}

/** A subject, the years, the signature; `issuer` follows for all but the CA. */
const common = (subject: string) => ({
  name: subject,
  subject,
  notBefore: new Date(Date.now() - 3_600_000), // the other host's clock may be behind
  notAfter: new Date(Date.now() + YEARS * YEAR_MS),
  signingAlgorithm: ALGORITHM,
});

const newKeys = () => crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);

const pemKey = async (key: webcrypto.CryptoKey) =>
  x509.PemConverter.encode(await crypto.subtle.exportKey('pkcs8', key), x509.PemConverter.PrivateKeyTag);

/** Whole or not at all. */
async function save(path: string, pem: string): Promise<void> {
  writeFileSync(`${path}.new`, `${pem.trim()}\n`, { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
}
