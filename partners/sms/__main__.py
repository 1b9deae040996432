"""python -m partners.sms: a provider of text messages and WeChat template messages, whose phones can be looked into."""

from partners.front import secret
from partners.kit import data_file, serve
from partners.sms.http import create


def main() -> None:
    path, key = data_file("sms"), secret("sms-api")
    serve(lambda: create(path, key))


if __name__ == "__main__":
    main()
