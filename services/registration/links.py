"""Links to photos that work without a token for a few minutes, for the image views of apps and browsers (§10, §31). Who
gets one has shown that the photo may be seen. Wall time, as with everything that keeps strangers out."""

from __future__ import annotations

import hmac
import time

from eventkit.events import Refusal
from eventkit.vault import Vault

LIFETIME_SECONDS = 300


class PhotoLinks:
    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def link(self, photo_id: str) -> tuple[str, int]:
        """-> (path with query, seconds it works for)."""
        expires = int(time.time()) + LIFETIME_SECONDS
        signature = self._sign(photo_id, expires)
        path = f"/api/registration/photo-links/{photo_id}?expires={expires}&signature={signature}"
        return path, LIFETIME_SECONDS

    def check(self, photo_id: str, expires: int, signature: str) -> None:
        """Raises Refusal("link_over") for one that is old or was not made here."""
        made_here = hmac.compare_digest(self._sign(photo_id, expires).encode(), signature.encode())
        if not made_here or expires < time.time():
            raise Refusal("link_over")

    def _sign(self, photo_id: str, expires: int) -> str:
        return self._vault.blind("photo-link", f"{photo_id}/{expires}")
