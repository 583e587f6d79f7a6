"""Makes what the first start needs: an authority and a certificate for Redis, its user's password, the sidecar's keys.

Run by the service `init`. When everything is there, nothing is changed. The authority's own key is not kept.
"""

import os
import secrets
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy.credentials import new_admin_token, new_encryption_key, new_name_key

MADE = Path("/made")
USERS = Path("/users.acl")
OWNERS = {"redis": 999, "sidecar": 10001}  # the users that the services run as
HOST = "redis"
VALID = timedelta(days=825)


def main() -> int:
    files = everything()
    if all((MADE / name).exists() for name in files):
        print("init: everything is there")
        return 0
    for name, content in files.items():
        keep(MADE / name, content, OWNERS[name.partition("/")[0]])
    print(f"init: made {len(files)} files")
    return 0


def everything() -> dict[str, bytes]:
    authority, certificate, key = certificates(datetime.now(UTC))
    password = secrets.token_urlsafe(32)
    token = new_admin_token("operator", "operator", None, os.urandom)
    # Redis is told the password's hash only
    users = USERS.read_text().replace(">change-me", f"#{sha256(password.encode()).hexdigest()}")
    return {
        "redis/ca.pem": authority,
        "redis/server.pem": certificate,
        "redis/server.key": key,
        "redis/users.acl": users.encode(),
        "sidecar/ca.pem": authority,
        "sidecar/redis-password": password.encode(),
        "sidecar/name-key": new_name_key(os.urandom).encode(),
        "sidecar/encryption-keys": new_encryption_key("k1", os.urandom).entry().encode(),
        "sidecar/admin-tokens": token.entry.encode(),
        "sidecar/admin-token": token.token.encode(),
    }


def keep(file: Path, content: bytes, owner: int) -> None:
    """Whole or not at all, and for its reader alone."""
    unfinished = file.with_name(f".{file.name}")
    unfinished.unlink(missing_ok=True)
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(handle, "wb") as opened:
        opened.write(content)
        os.fchown(handle, owner, owner)
    unfinished.replace(file)


def certificates(now: datetime) -> tuple[bytes, bytes, bytes]:
    """An authority, a certificate of it for Redis, and that certificate's key."""
    signer, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sidecache compose authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    blank = x509.CertificateBuilder().issuer_name(issuer)
    blank = blank.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + VALID)
    names = x509.SubjectAlternativeName([x509.DNSName(HOST)])
    authority = (
        blank.subject_name(issuer).public_key(signer.public_key()).serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )  # fmt: skip
    own = (
        blank.subject_name(subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return authority.public_bytes(pem), own.public_bytes(pem), private


if __name__ == "__main__":
    sys.exit(main())
