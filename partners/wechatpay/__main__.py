"""python -m partners.wechatpay            run the sandbox (FUZHEN_PORT, FUZHEN_DATA, FUZHEN_SECRETS)
python -m partners.wechatpay keys DIR   make the merchant's and the platform's keys once"""

import sys
from pathlib import Path

from partners.kit import data_file, serve, setting
from partners.wechatpay import keys
from partners.wechatpay.http import make_app


def main(arguments: list[str]) -> int:
    match arguments:
        case ["keys", folder]:
            keys.make(Path(folder))
        case []:
            secrets, file = Path(setting("FUZHEN_SECRETS")) / "wechatpay", data_file("wechatpay")
            try:
                known = keys.load(secrets)
            except OSError as failure:
                print(f"FUZHEN_SECRETS: {failure} (run: python -m partners.wechatpay keys {secrets})", file=sys.stderr)
                return 78
            serve(lambda: make_app(known, file))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
