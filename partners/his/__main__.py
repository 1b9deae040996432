"""python -m partners.his: the hospital's own system."""

from pathlib import Path

from flask import Flask

from partners.front import secret, text_of
from partners.his.http import create
from partners.his.pharmacy import Pharmacy
from partners.his.records import Records
from partners.kit import data_file, serve, setting


def main() -> None:
    path, key, bootstrap = data_file("his"), secret("his-api"), setting("FUZHEN_KAFKA")
    own_secret = text_of(Path(setting("FUZHEN_CLIENT_SECRET_FILE")))
    token_url, pharmacy_url = setting("FUZHEN_TOKEN_URL"), setting("FUZHEN_PHARMACY_URL")
    public_url = setting("FUZHEN_PUBLIC_URL", "")  # the desk works without; only histories with records need it

    def app() -> Flask:
        records = Records.at(public_url, token_url, own_secret) if public_url else None
        return create(path, key, bootstrap, Pharmacy(token_url, pharmacy_url, own_secret), records)

    serve(app)


if __name__ == "__main__":
    main()
