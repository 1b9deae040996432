"""§6: the QR code of an entrance, read back by another library than the one that drew it."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import pytest
import zxingcpp
from flask.testing import FlaskClient
from PIL import Image, ImageDraw

from services.registration.policy import ENTRANCES, Entrance
from tests.unit.registration.test_http import application, client, story

__all__ = ["application", "client", "story"]

PIXELS = 6  # a module, when the drawing is made a picture


def drawn(svg: bytes) -> Image.Image:
    """The picture that an SVG of one path of horizontal strokes describes (`M x y`, `h length`, `m dx dy`)."""
    root = ElementTree.fromstring(svg)
    side = int(root.attrib["width"])
    image = Image.new("L", (side * PIXELS, side * PIXELS), "white")
    pen, x, y = ImageDraw.Draw(image), 0.0, 0.0
    [path] = [element for element in root.iter() if element.tag.endswith("path")]
    for step, numbers in re.findall(r"([Mmh])([-\d. ]+)", path.attrib["d"]):
        values = [float(number) for number in re.findall(r"-?[\d.]+", numbers)]
        if step == "h":
            top = (y - 0.5) * PIXELS  # a stroke is one module wide, half of it on either side
            pen.rectangle((x * PIXELS, top, (x + values[0]) * PIXELS - 1, top + PIXELS - 1), fill="black")
            x += values[0]
        elif step == "M":
            x, y = values
        else:
            x, y = x + values[0], y + values[1]
    return image


@pytest.mark.parametrize("entrance", ENTRANCES, ids=[entrance.entrance for entrance in ENTRANCES])
def test_s6_a_decoder_reads_back_what_the_code_says(client: FlaskClient, entrance: Entrance) -> None:
    shown = client.get("/api/registration/entrances").json
    assert shown is not None
    [listed] = [row for row in shown["entrances"] if row["entrance"] == entrance.entrance]
    png, svg = client.get(listed["qr_png"]), client.get(listed["qr_svg"])
    assert (png.mimetype, svg.mimetype) == ("image/png", "image/svg+xml")
    for image in (Image.open(io.BytesIO(png.data)).convert("L"), drawn(svg.data)):
        [code] = zxingcpp.read_barcodes(image)
        assert (code.text, code.format) == (listed["qr_content"], zxingcpp.BarcodeFormat.QRCode)


def test_s6_a_stained_poster_can_still_be_read(client: FlaskClient) -> None:
    png = client.get("/api/registration/entrances/app/qr.png").data
    image = Image.open(io.BytesIO(png)).convert("L")
    middle = image.width // 2
    ImageDraw.Draw(image).rectangle((middle - 20, middle - 20, middle + 20, middle + 20), fill="gray")
    [code] = zxingcpp.read_barcodes(image)
    assert code.text == "https://fuzhen.example/e/app"


@pytest.mark.parametrize("path", ["fax/qr.png", "fax/qr.svg"])
def test_s6_there_is_no_fourth_entrance(client: FlaskClient, path: str) -> None:
    refused = client.get(f"/api/registration/entrances/{path}")
    assert (refused.status_code, refused.mimetype) == (404, "application/problem+json")
