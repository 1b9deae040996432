"""The keys of one merchant and of the platform, and the three cryptographic moves of API v3: sign, verify, seal."""

import base64
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

ALGORITHM = "WECHATPAY2-SHA256-RSA2048"


@dataclass(frozen=True)
class Keys:
    """What the platform knows. `signers` maps a Wechatpay-Serial (of the platform certificate, or the id of the newer
    platform public key) to the private key behind it."""

    mchid: str
    appid: str
    apiv3_key: str
    merchant_serial: str
    merchant_public: RSAPublicKey
    platform_certificate: x509.Certificate
    platform_serial: str
    signers: dict[str, RSAPrivateKey]


def make(folder: Path) -> None:
    """Write what is missing once; merchant.json is last and says that all is there, so a second run changes nothing."""
    if (folder / "merchant.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    merchant, platform, public = (generate_private_key(65537, 2048) for _ in range(3))
    mchid = "1900" + f"{secrets.randbelow(10**6):06}"
    merchant_certificate = _certificate(merchant, mchid)
    platform_certificate = _certificate(platform, "Tenpay.com sandbox")
    _write(folder / "merchant_key.pem", _private_pem(merchant))
    _write(folder / "merchant_cert.pem", merchant_certificate.public_bytes(serialization.Encoding.PEM))
    _write(folder / "platform_key.pem", _private_pem(platform))
    _write(folder / "platform_cert.pem", platform_certificate.public_bytes(serialization.Encoding.PEM))
    _write(folder / "platform_public_key_private.pem", _private_pem(public))
    _write(
        folder / "platform_public_key.pem",
        public.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    )
    _write(folder / "apiv3_key", secrets.token_hex(16).encode())
    names = {
        "mchid": mchid,
        "appid": "wx" + secrets.token_hex(8),
        "merchant_serial": _serial(merchant_certificate),
        "platform_serial": _serial(platform_certificate),
        "public_key_id": f"PUB_KEY_ID_0{mchid}{secrets.randbelow(10**20):020}",
    }
    _write(folder / "merchant.json", json.dumps(names, indent=1).encode())


def load(folder: Path) -> Keys:
    """Raises OSError when `keys` was not run on this folder."""
    names = json.loads((folder / "merchant.json").read_text())
    merchant = x509.load_pem_x509_certificate((folder / "merchant_cert.pem").read_bytes()).public_key()
    assert isinstance(merchant, RSAPublicKey)
    return Keys(
        mchid=names["mchid"],
        appid=names["appid"],
        apiv3_key=(folder / "apiv3_key").read_text().strip(),
        merchant_serial=names["merchant_serial"],
        merchant_public=merchant,
        platform_certificate=x509.load_pem_x509_certificate((folder / "platform_cert.pem").read_bytes()),
        platform_serial=names["platform_serial"],
        signers={
            names["platform_serial"]: _load_private(folder / "platform_key.pem"),
            names["public_key_id"]: _load_private(folder / "platform_public_key_private.pem"),
        },
    )


def sign(key: RSAPrivateKey, *lines: str) -> str:
    """SHA256-RSA2048 over the lines, each ended by a newline; base64."""
    return base64.b64encode(key.sign(_message(lines), PKCS1v15(), SHA256())).decode()


def verified(key: RSAPublicKey, signature: str, *lines: str) -> bool:
    try:
        key.verify(base64.b64decode(signature, validate=True), _message(lines), PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


def seal(apiv3_key: str, plaintext: str, associated_data: str) -> dict[str, str]:
    """AEAD_AES_256_GCM as API v3 writes it: {algorithm, nonce, associated_data, ciphertext}."""
    nonce = secrets.token_hex(6)
    ciphertext = AESGCM(apiv3_key.encode()).encrypt(nonce.encode(), plaintext.encode(), associated_data.encode())
    return {
        "algorithm": "AEAD_AES_256_GCM",
        "nonce": nonce,
        "associated_data": associated_data,
        "ciphertext": base64.b64encode(ciphertext).decode(),
    }


def _message(lines: tuple[str, ...]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _certificate(key: RSAPrivateKey, name: str) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=5 * 365))
        .sign(key, SHA256())
    )


def _serial(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:040X}"


def _private_pem(key: RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_private(path: Path) -> RSAPrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, RSAPrivateKey)
    return key


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
