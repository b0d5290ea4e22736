/**
 * PEM files of one TLS setting: read and checked whole, so that what is broken is said with the name of its setting,
 * at the start or at a re-read, and never takes the place of what works.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { InvalidError } from '../model/errors.js';

/** Of files: their paths. Of what is read: PEM texts. */
export interface TlsParts {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}
/** A side that shows a certificate of its own and checks the other's. */
export type MutualTls = Required<TlsParts>;

export const TLS_MIN = 'TLSv1.2'; // older ones are deprecated (RFC 8996)

const CERTIFICATE =
  /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[^-]+-----END (?:X509 |TRUSTED )?CERTIFICATE-----/g;

/** What gave each path, for messages: `HTTP_TLS_CA`. */
export type TlsSettingNames = Readonly<Record<keyof TlsParts, string>>;

export class TlsFiles<T extends TlsParts = MutualTls> {
  readonly #paths: T;
  readonly #settings: TlsSettingNames;
  readonly #listeners = new Set<(now: T) => void>();
  #current: T;

  private constructor(paths: T, settings: TlsSettingNames, current: T) {
    this.#paths = paths;
    this.#settings = settings;
    this.#current = current;
  }

  /** @throws InvalidError that names the setting and the file. */
  static open<T extends TlsParts>(paths: T, settings: TlsSettingNames): TlsFiles<T> {
    return new TlsFiles(paths, settings, readParts(paths, settings));
  }

  /** PEM texts as of the last good reading: ask again for each connection. */
  current(): T {
    return this.#current;
  }

  /** Reads the files anew and tells who listens. @throws InvalidError: a file is broken; what was stays. */
  reload(): T {
    this.#current = readParts(this.#paths, this.#settings);
    for (const listener of this.#listeners) listener(this.#current);
    return this.#current;
  }

  /** Calls `listener` after each good re-read. Returns how to end that. */
  onReload(listener: (now: T) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Whose certificate it is and until when it is valid, for a log. */
  describe(): Record<'certificate' | 'valid_until' | 'files', string> {
    const { cert, ca } = this.#current;
    const shown = new X509Certificate(cert ?? ca ?? '');
    return {
      certificate: shown.subject.replaceAll('\n', ', '),
      valid_until: new Date(shown.validTo).toISOString(),
      files: Object.values(this.#paths).join(', '),
    };
  }
}

function readParts<T extends TlsParts>(paths: T, settings: TlsSettingNames): T {
  const broken: Broken = (part, what, cause) => {
    const [field, path] = [settings[part], paths[part]];
    return new InvalidError(`${field}: ${path} ${what}`, { field, path, ...(cause ? { cause } : {}) });
  };
  const parts = Object.entries(paths).map(([part, path]) => [
    part,
    readText(part as keyof TlsParts, path as string, broken),
  ]);
  const now = Object.fromEntries(parts) as T;
  checkCertificates('ca', now.ca, broken);
  const [leaf] = checkCertificates('cert', now.cert, broken);
  if (leaf && now.key !== undefined) checkKey(leaf, now.key, broken);
  try {
    createSecureContext({ ...now, minVersion: TLS_MIN });
  } catch (cause) {
    throw broken('cert', `is refused by TLS (${(cause as Error).message})`, cause);
  }
  return now;
}

type Broken = (part: keyof TlsParts, what: string, cause?: unknown) => InvalidError;

function readText(part: keyof TlsParts, path: string, broken: Broken): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw broken(part, `cannot be read (${(cause as NodeJS.ErrnoException).code})`, cause);
  }
}

function checkCertificates(part: keyof TlsParts, pem: string | undefined, broken: Broken): X509Certificate[] {
  if (pem === undefined) return [];
  const blocks = pem.match(CERTIFICATE) ?? [];
  if (blocks.length === 0) throw broken(part, 'holds no certificate in PEM');
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block);
    } catch (cause) {
      throw broken(part, `holds a certificate, number ${index + 1}, that is none`, cause);
    }
  });
}

/** Without the cause: what a key's parser says is not for logs. */
function checkKey(leaf: X509Certificate, pem: string, broken: Broken): void {
  let fits: boolean;
  try {
    fits = leaf.checkPrivateKey(createPrivateKey(pem));
  } catch {
    const locked = pem.includes('ENCRYPTED'); // in the label (RFC 5958) or in Proc-Type (RFC 1421)
    throw broken(
      'key',
      locked ? 'needs a passphrase; give a key without one' : 'holds no private key in PEM',
    );
  }
  if (!fits) throw broken('key', 'does not belong to the certificate beside it');
}
