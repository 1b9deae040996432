"""python -m partners.courier: a courier that takes parcels, tells where they are, and collects its fee at the door."""

from partners.courier.http import create
from partners.front import secret
from partners.kit import data_file, serve, setting


def main() -> None:
    path, api_key, notice_key = data_file("courier"), secret("courier-api"), secret("courier-webhook")
    callback_url = setting("FUZHEN_PUBLIC_URL").rstrip("/") + "/api/pharmacy/notices/courier"
    serve(lambda: create(path, api_key, notice_key, callback_url))


if __name__ == "__main__":
    main()
