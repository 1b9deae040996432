"""python -m partners.insurer: splits a fee into fund, personal account and self-pay, claims it, takes it back."""

from partners.front import secret
from partners.insurer.http import make_app
from partners.kit import data_file, serve


def main() -> None:
    file, key = data_file("insurer"), secret("insurer")
    serve(lambda: make_app(file, key))


if __name__ == "__main__":
    main()
