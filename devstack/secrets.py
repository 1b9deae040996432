"""All secrets of one stack, made once under HOME/secrets (files 0600, folders 0700); none is ever in the repository.

    jwt_key.pem           ES256 key with which registration signs tokens
    master_key            32 random bytes in base64: wraps the keys of patients
    clients/<name>        the shared secret of a token client, or of signed calls to or from a partner
    clients.json          what registration knows of them: {name: {"sha256": hex of the secret, "roles": [...]}}
    pharmacy-ca/          sample authority of electronic signatures, made by `python -m services.pharmacy.authority`
    wechatpay/            merchant and platform keys, made by `python -m partners.wechatpay keys`

The secrets in clients/ are 256 random bits, so that a plain SHA-256 is enough to know them by: nothing can be guessed.
"""

import base64
import hashlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from devstack.places import REPO
from devstack.ports import SERVICES

TOKEN_CLIENTS = {**{service: ["service"] for service in SERVICES}, "his": ["his"]}
# Each end of a signed call has the same one.
PARTNER_SECRETS = ("his-api", "insurer", "courier-api", "courier-webhook", "sms-api")


def make(folder: Path) -> None:
    """Makes what is missing and touches nothing that is there."""
    clients = folder / "clients"
    clients.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    clients.chmod(0o700)
    _once(folder / "jwt_key.pem", _signing_key)
    _once(folder / "master_key", lambda: base64.b64encode(secrets.token_bytes(32)).decode())
    for name in (*TOKEN_CLIENTS, *PARTNER_SECRETS):
        _once(clients / name, lambda: secrets.token_hex(32))
    known = {
        name: {"sha256": hashlib.sha256((clients / name).read_bytes()).hexdigest(), "roles": roles}
        for name, roles in TOKEN_CLIENTS.items()
    }
    _once(folder / "clients.json", lambda: json.dumps(known, indent=2))
    if not (folder / "wechatpay" / "merchant.json").exists():
        subprocess.run(
            [sys.executable, "-m", "partners.wechatpay", "keys", str(folder / "wechatpay")],
            cwd=REPO, check=True, capture_output=True, text=True,
        )  # fmt: skip
    if not (folder / "pharmacy-ca" / "ca_cert.pem").exists():
        subprocess.run(
            [sys.executable, "-m", "services.pharmacy.authority", str(folder / "pharmacy-ca")],
            cwd=REPO, check=True, capture_output=True, text=True,
        )  # fmt: skip


def _signing_key() -> str:
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def _once(path: Path, make_text: Callable[[], str]) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(make_text())
