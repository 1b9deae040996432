"""The prescription sheet on paper (处方笺, §20, §22): A5 as a PDF, with a QR code that leads back to what was signed.

STSong-Light is a font that every PDF reader brings along (Adobe's Chinese pack), so that none is stored here.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import segno
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A5
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.platypus import (
    Flowable,
    HRFlowable,
    KeepTogether,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

from services.pharmacy.domain.drugs import HERBAL
from services.pharmacy.domain.prescription import ISSUED, Prescription
from services.pharmacy.events import Line, PrescriptionSigned, Sheet

SHANGHAI = ZoneInfo("Asia/Shanghai")
_FONT = "STSong-Light"
_GREY, _RED = HexColor("#555555"), HexColor("#b00020")
_STATES = {
    "in_review": "未经药师审核 不得调配",
    "returned": "已退回医师 不得调配",
    "voided": "已作废",
    "expired": "已过期",
    "dispensed": "已发药",
}
_SEXES = {"male": "男", "female": "女"}
_HERBS_A_ROW = 3
pdfmetrics.registerFont(UnicodeCIDFont(_FONT))


def _style(name: str, size: float, **more: Any) -> ParagraphStyle:
    return ParagraphStyle(name, fontName=_FONT, fontSize=size, leading=size * 1.4, wordWrap="CJK", **more)


_TITLE, _BODY = _style("title", 15), _style("body", 9.5)
_SMALL, _STAMP = _style("small", 7, textColor=_GREY), _style("stamp", 12, textColor=_RED)
_USAGE = _style("usage", 9, leftIndent=14)
_AMOUNT = _style("amount", 10, alignment=TA_RIGHT)


@dataclass(frozen=True, slots=True)
class Person:
    """What registration knows; None where it knows nothing any more."""

    name: str | None
    sex: str | None = None
    birth_date: date | None = None


def verification_url(public_url: str, signed: PrescriptionSigned) -> str:
    """Where the state of this very content can be asked for; it names nobody."""
    path = f"/api/pharmacy/prescriptions/{signed.prescription_id}/verification"
    return f"{public_url.rstrip('/')}{path}?content_sha256={signed.content_sha256}"


def pdf(prescription: Prescription, patient: Person, doctor: str | None, public_url: str) -> bytes:
    """The sheet with its state as of now. Raises ValueError when the medical part is erased (§31)."""
    signed = prescription.facts
    sheet = signed.sheet
    if sheet is None:
        raise ValueError("nothing is left of the medical part")
    url = verification_url(public_url, signed)
    story: list[Flowable] = [
        _head(signed, url),
        *_stamp(prescription),
        _people(signed, sheet, patient),
        _line(),
        Paragraph("<b>Rp.</b>", _BODY),
        *(_herbs(sheet) if signed.kind == HERBAL else _drugs(sheet.lines)),
        Spacer(1, 2 * mm),
        Paragraph(f"金额:¥{signed.amount_fen / 100:.2f}", _AMOUNT),
        _line(),
        *_second(sheet),
        KeepTogether(_signatures(prescription, doctor)),
        _line(),
        Paragraph(f"处方内容摘要 SHA-256:{signed.content_sha256}", _SMALL),
        Paragraph(f"核验地址:{_text(url)}", _SMALL),
        Paragraph("本处方自开具起72小时内有效。电子签名可离线核验。样例系统,不用于诊疗。", _SMALL),
    ]
    file = io.BytesIO()
    SimpleDocTemplate(
        file, pagesize=A5, leftMargin=12 * mm, rightMargin=12 * mm, topMargin=10 * mm, bottomMargin=10 * mm,
        title=f"处方笺 {signed.prescription_id}", author="复诊互联网医院", invariant=1,
    ).build(story)  # fmt: skip
    return file.getvalue()


def _head(signed: PrescriptionSigned, url: str) -> Table:
    kind = "中药饮片" if signed.kind == HERBAL else "西药、中成药"
    words = [
        Paragraph("复诊互联网医院 处方笺", _TITLE),
        Spacer(1, 2 * mm),
        Paragraph(f"类别:{kind}", _BODY),
        Paragraph(f"处方号:{_text(signed.prescription_id)}", _BODY),
        Paragraph(f"开具:{_moment(signed.signed_at)}  有效期至:{_moment(signed.valid_until)}", _SMALL),
    ]
    table = Table([[words, QrCode(url, 26 * mm)]], colWidths=[91 * mm, 28 * mm])
    table.setStyle(TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)]))
    return table


def _stamp(prescription: Prescription) -> list[Flowable]:
    """Only what is in effect may be dispensed; everything else says so in red."""
    if prescription.state == ISSUED:
        return []
    return [Paragraph(_STATES[prescription.state], _STAMP), Spacer(1, 1 * mm)]


def _people(signed: PrescriptionSigned, sheet: Sheet, patient: Person) -> Table:
    age = _age(patient.birth_date, signed.signed_at)
    return _grid([
        [f"姓名:{patient.name or '(已删除)'}", f"性别:{_SEXES.get(patient.sex or '', '—')}", f"年龄:{age}"],
        [f"就诊号:{signed.visit_id}", "", ""],
        [f"临床诊断:{sheet.diagnosis}", "", ""],
        [f"过敏史:{'、'.join(sheet.allergies) or '未述'}", "", ""],
    ])


def _grid(rows: Sequence[Sequence[str]]) -> Table:
    cells = [[Paragraph(_text(cell), _BODY) for cell in row] for row in rows]
    table = Table(cells, colWidths=[59 * mm, 30 * mm, 30 * mm])
    spans = [("SPAN", (0, at), (-1, at)) for at, row in enumerate(rows) if not any(row[1:])]
    table.setStyle(TableStyle([("LEFTPADDING", (0, 0), (-1, -1), 0), ("TOPPADDING", (0, 0), (-1, -1), 1), *spans]))
    return table


def _drugs(lines: Sequence[Line]) -> list[Flowable]:
    return [
        KeepTogether([
            Paragraph(f"{number}. {_text(line.name)}  ×{line.quantity}{_text(line.unit)}", _BODY),
            Paragraph(f"用法:{_text(' '.join(filter(None, (line.usage, line.dose))))}", _USAGE),
        ])
        for number, line in enumerate(lines, 1)
    ]


def _herbs(sheet: Sheet) -> list[Flowable]:
    """As a herbal sheet is read: name, grams a dose, and how it is decocted, some in a row."""
    cells = [
        Paragraph(f"{_text(line.name)} {line.quantity}g" + (f"({_text(line.usage)})" if line.usage else ""), _BODY)
        for line in sheet.lines
    ]
    cells += [Paragraph("", _BODY)] * (-len(cells) % _HERBS_A_ROW)
    rows = [cells[at : at + _HERBS_A_ROW] for at in range(0, len(cells), _HERBS_A_ROW)]
    found: list[Flowable] = [Table(rows, colWidths=[39 * mm] * _HERBS_A_ROW)]
    if sheet.herbal:
        way = "代煎" if sheet.herbal.decoction == "hospital" else "自煎"
        found.append(Paragraph(f"共{sheet.herbal.doses}剂  {way}  用法:{_text(sheet.herbal.usage)}", _BODY))
    return found


def _second(sheet: Sheet) -> list[Flowable]:
    if sheet.second is None:
        return []
    return [
        Paragraph("医师再次签名确认:", _BODY),
        *(Paragraph(f"{n}) {_text(found.detail)}", _BODY) for n, found in enumerate(sheet.second.findings, 1)),
        Paragraph(f"理由:{_text(sheet.second.reason)}", _BODY),
        _line(),
    ]


def _signatures(prescription: Prescription, doctor: str | None) -> list[Flowable]:
    signed, reviewed, issued = prescription.facts, prescription.reviewed, prescription.issued
    found: list[Flowable] = [Paragraph(f"医师:{_text(doctor or signed.doctor_id)}(电子签名)", _BODY)]
    if signed.signature:
        found.append(Paragraph(f"证书序列号:{signed.signature.key_id}  {_moment(signed.signed_at)}", _SMALL))
    if signed.second_signature:
        found.append(Paragraph(f"再次签名 证书序列号:{signed.second_signature.key_id}", _SMALL))
    if issued and reviewed:
        found.append(Paragraph(f"审核药师:{_text(issued.pharmacist_id)}(电子签名)", _BODY))
        if reviewed.signature and reviewed.reviewed_at:
            text = f"证书序列号:{reviewed.signature.key_id}  {_moment(reviewed.reviewed_at)}"
            found.append(Paragraph(text, _SMALL))
    return [*found, Paragraph("调配:____________  核对、发药:____________", _BODY)]


class QrCode(Flowable):
    """Vector squares: sharp at any size."""

    def __init__(self, content: str, side: float) -> None:
        super().__init__()
        self.width = self.height = side
        self._rows = [list(row) for row in segno.make(content, error="m", micro=False).matrix]

    def draw(self) -> None:
        step = self.width / (len(self._rows) + 4)  # two modules of margin on paper that is white anyway
        for y, row in enumerate(self._rows):
            for x, dark in enumerate(row):
                if dark:
                    self.canv.rect((x + 2) * step, self.height - (y + 3) * step, step, step, stroke=0, fill=1)


def _line() -> HRFlowable:
    return HRFlowable(width="100%", thickness=0.5, color=_GREY, spaceBefore=3, spaceAfter=3)


def _moment(instant: datetime) -> str:
    return instant.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M")


def _age(born: date | None, at: datetime) -> str:
    if born is None:
        return "—"
    today = at.astimezone(SHANGHAI).date()
    return f"{today.year - born.year - ((today.month, today.day) < (born.month, born.day))}岁"


def _text(text: str) -> str:
    """Paragraphs read markup; what people typed is none."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
