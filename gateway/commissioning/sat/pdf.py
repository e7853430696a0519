"""The report as PDF by fpdf2, the JSON attached; same input, same bytes.

Importing this module needs the extra ``report``; commands import it only when a PDF is asked for.

English, German and Spanish use the fonts every reader has; Chinese needs a TrueType font with
its glyphs, which Debian's ``fonts-wqy-zenhei`` brings (GPL-2 with the exception for embedding);
the glyphs that are used are embedded.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import re
import sys
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fpdf
from fpdf.errors import FPDFException
from fpdf.fonts import FontFace

from gateway.commissioning.sat.plots import caption
from gateway.commissioning.sat.report import check_of, json_bytes, utc_text
from gateway.commissioning.sat.words import word
from gateway.model.errors import GatewayError

if sys.version_info >= (3, 12):
    from typing import override
else:
    from typing_extensions import override

CJK_FONT = Path("/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc")
ATTACHMENT = "sat-report.json"
_ATTACHED = re.compile(rb" obj\n<<\n((?:/[^\n]*\n)*?)/Type /EmbeddedFile\n>>\nstream\n")
_LENGTH = re.compile(rb"/Length (\d+)")
_MARKS = {"ok": "OK", "fault": "FAULT", "undecided": "?", "skipped": "-", "open": "", "running": ""}
# Signs outside Latin-1 that findings and limits use.
_LATIN = {
    "≤": "<=", "≥": ">=", "–": "-", "—": "-", "−": "-", "“": '"', "”": '"', "’": "'", "→": "->",
    "…": "...", "Σ": "sum ", "Ω": "ohm", "Δ": "d", "·": "·", "∞": "inf", "‰": "permille",
}  # fmt: skip


GREY, RULE, SHADE = (90, 90, 90), (170, 170, 170), (232, 234, 236)
HEADING_MM, CHECK_MM, LINES_MM = 40, 30, 12  # room that must be left on a page to begin one


# What a plot with a changed byte may end in, inside the drawing library and its XML reader.
_NOT_OURS = (
    ArithmeticError, AttributeError, FPDFException, LookupError, OSError,
    RuntimeError, SyntaxError, TypeError, ValueError,
)  # fmt: skip


class PdfError(GatewayError):
    """No PDF can be made here; the text says what is missing."""


def render(report: Mapping[str, Any]) -> bytes:
    """Draw the PDF; PdfError when the font for Chinese is missing."""
    sheet = _Sheet(report)
    sheet.cover()
    sheet.punch()
    sheet.steps()
    sheet.evidence()
    return sheet.finish()


def attached(document: bytes) -> Any:
    """Return the report a PDF carries; ValueError when it carries none."""
    found = _ATTACHED.search(document)
    if not found:
        raise ValueError("the PDF carries no report")
    length = _LENGTH.search(found.group(1))
    if not length:
        raise ValueError("the PDF's attachment has no length")
    raw = document[found.end() : found.end() + int(length.group(1))]
    if b"/FlateDecode" in found.group(0):
        try:
            raw = zlib.decompress(raw)
        except zlib.error:
            raise ValueError("the PDF's attachment is damaged") from None
    return json.loads(raw)


class _Paper(fpdf.FPDF):  # type: ignore[misc]  # fpdf2 brings no types
    """A4 with one line at the foot of every page: which report this page belongs to."""

    foot = ""
    family = "helvetica"

    @override
    def footer(self) -> None:
        self.set_y(-12)
        self.set_font(self.family, "", 7)
        self.set_text_color(*GREY)
        self.cell(0, 4, self.foot)
        self.set_x(self.l_margin)
        self.cell(0, 4, f"{self.page_no()} / {{nb}}", align="R")
        self.set_text_color(0)


class _Sheet:
    """Draws one report onto pages."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        self._report = report
        self._record = report["record"]
        self._language = report["language"]
        pdf = _Paper(format="A4")
        pdf.set_compression(True)
        # It tells of every <title> that it cannot draw; nobody can act on that.
        logging.getLogger("fpdf.svg").setLevel(logging.ERROR)
        moment = dt.datetime.fromtimestamp(self._record["ended_us"] // 1_000_000, tz=dt.UTC)
        pdf.set_creation_date(moment)
        pdf.set_producer("sopgw")
        pdf.set_title(f"{self._w('title-' + self._record['header']['phase'])}")
        pdf.set_lang(self._language)
        pdf.set_auto_page_break(auto=True, margin=18)
        self._cjk = self._language == "zh"
        self._family = "helvetica"
        if self._cjk:
            if not CJK_FONT.is_file():
                raise PdfError("Chinese PDF needs a font: apt install fonts-wqy-zenhei")
            # The subsetter tells of a bitmap table it drops; nobody can act on that.
            logging.getLogger("fontTools.subset").setLevel(logging.ERROR)
            pdf.add_font("cjk", fname=CJK_FONT)
            self._family = "cjk"
        self._pdf = pdf
        self._moment = moment
        header = self._record["header"]
        pdf.family = self._family
        pdf.foot = self._t(
            f"{header['site']}  {header['sop']}  {self._record['run']}  "
            f"{self._w(self._record['verdict'])}  sha256 {report['record_sha256'][:16]}"
        )
        pdf.add_page()

    def _w(self, key: str) -> str:
        return word(self._language, key)

    def _t(self, text: object) -> str:
        plain = str(text)
        if self._cjk:
            return plain
        for sign, spelled in _LATIN.items():
            plain = plain.replace(sign, spelled)
        return plain.encode("latin-1", "replace").decode("latin-1")

    def _font(self, size: int, *, bold: bool = False) -> None:
        self._pdf.set_font(self._family, "B" if bold and not self._cjk else "", size)

    def _heading(self, text: str, *, size: int = 13) -> None:
        if self._pdf.will_page_break(HEADING_MM):
            self._pdf.add_page()
        self._pdf.ln(4)
        self._font(size, bold=True)
        self._line(text, height=7)
        self._pdf.set_draw_color(*GREY)
        y_mm = self._pdf.get_y()
        self._pdf.line(self._pdf.l_margin, y_mm, self._pdf.w - self._pdf.r_margin, y_mm)
        self._pdf.ln(1.5)
        self._font(9)

    def _line(self, text: str, *, height: float = 4.6) -> None:
        self._pdf.multi_cell(0, height, self._t(text), new_x="LMARGIN", new_y="NEXT")

    def _table(
        self, rows: Sequence[Sequence[str]], widths: tuple[int, ...], *, headed: bool = True
    ) -> None:
        """Draw a table; a row whose verdict is a fault is bold."""
        self._font(8)
        self._pdf.set_draw_color(*RULE)
        head = FontFace(emphasis=None if self._cjk else "BOLD", fill_color=SHADE)
        bad = FontFace(emphasis=None if self._cjk else "BOLD")
        with self._pdf.table(
            col_widths=widths,
            line_height=4.4,
            padding=(0.4, 0.6),
            text_align="LEFT",
            borders_layout="HORIZONTAL_LINES",
            first_row_as_headings=headed,
            headings_style=head,
        ) as table:
            for cells in rows:
                row = table.row(style=bad if _MARKS["fault"] in cells else None)
                for cell in cells:
                    row.cell(self._t(cell))
        self._font(9)

    def cover(self) -> None:
        record, header, plan = self._record, self._record["header"], self._record["plan"]
        self._font(18, bold=True)
        self._line(self._w(f"title-{header['phase']}"), height=10)
        self._font(12, bold=True)
        self._pdf.set_draw_color(0)
        verdict = self._t(f"{self._w('verdict')}: {self._w(record['verdict'])}")
        self._pdf.cell(
            self._pdf.get_string_width(verdict) + 8, 10, verdict, border=1, align="C",
            new_x="LMARGIN", new_y="NEXT",
        )  # fmt: skip
        self._pdf.ln(3)
        self._table(
            [
                (self._w("site"), header["site"]),
                (self._w("sop"), header["sop"]),
                (self._w("run"), record["run"]),
                (self._w("plan"), f"{plan['title']} ({plan['plan']}, {plan['revision']})"),
                (self._w("started"), utc_text(record["started_us"])),
                (self._w("ended"), utc_text(record["ended_us"])),
            ],
            (1, 3),
            headed=False,
        )
        self._heading(self._w("signatures"))
        signatures = self._report["signatures"]
        if not signatures:
            self._line(self._w("unsigned"))
        for s in signatures:
            proof = s["fingerprint"] if s["kind"] == "ssh" else f"{self._w('paper')} {s['sha256']}"
            self._line(f"{s['role']}: {s['name']}, {utc_text(s['utc_us'])}, {proof}")
        self._heading(self._w("summary"))
        rows = [(self._w("step"), "", self._w("checks"), self._w("status"), self._w("witness"))]
        for step in plan["steps"]:
            found = [check_of(self._report, c["id"])["status"] for c in step["checks"]]
            passed = sum(s == "ok" for s in found)
            worst = next((s for s in ("fault", "undecided", "open") if s in found), "ok")
            rows.append(
                (
                    step["id"],
                    step["title"] + ("" if step["hold"] == "-" else f" [{step['hold']}]"),
                    f"{passed}/{len(found)}",
                    _MARKS[worst],
                    record["witnessed"].get(step["id"], ""),
                )
            )
        self._table(rows, (1, 6, 2, 2, 3))
        self._heading(self._w("settings"))
        settings = sorted(header.get("settings", {}).items())
        self._table([(k, str(v)) for k, v in settings] or [("–", "–")], (1, 4), headed=False)

    def punch(self) -> None:
        self._heading(self._w("punch"))
        items = self._record["punch"]
        if not items:
            self._line(self._w("punch-none"))
            return
        head = ("number", "where", "finding", "mend", "status")
        rows = [tuple(self._w(h) for h in head)]
        for p in items:
            status = (
                self._w("open")
                if p["closed_us"] < 0
                else f"{self._w('closed')} {utc_text(p['closed_us'])}"
            )
            rows.append((p["number"], p["where"], p["what"], p["mend"], status))
        self._table(rows, (2, 4, 8, 8, 4))

    def steps(self) -> None:
        for step in self._record["plan"]["steps"]:
            self._heading(f"{step['id']} {step['title']}")
            if step["purpose"]:
                self._line(step["purpose"])
            for check in step["checks"]:
                self._one_check(check, check_of(self._report, check["id"]))

    def _one_check(self, check: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        if self._pdf.will_page_break(CHECK_MM if result["rows"] else LINES_MM):
            self._pdf.add_page()
        self._pdf.ln(2)
        self._font(9, bold=True)
        self._line(f"{check['id']} {check['title']}: {self._w(result['status'])}")
        self._font(8)
        command = " ".join([check["run"], *check["arguments"]]).strip()
        done = f"{utc_text(result['done_us'])}, {result['by']}, {self._w('attempts')} "
        said = [f"{done}{result['attempts']}"] if result["attempts"] else []
        self._line(", ".join([*said, f"sopgw {command}"] if command else said))
        for text in (result["reason"], result["note"]):
            if text:
                self._line(text)
        if result["rows"]:
            head = (self._w("measured"), self._w("value"), self._w("limit"), "")
            rows = [
                (r["name"], r["value"], r["limit"], _MARKS.get(r["verdict"], ""))
                for r in result["rows"]
            ]
            self._table([head, *rows], (6, 7, 5, 2))
        if result["plot_svg"]:
            if self._pdf.will_page_break(50):
                self._pdf.add_page()
            self._plot(result["plot_svg"])
        for finding in result["findings"]:
            self._line(f"! {finding['what']}. {finding['mend']}.")

    def _plot(self, svg: str) -> None:
        """Draw a plot; PdfError for one that is none of ours: it was changed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self._pdf.image(io.BytesIO(svg.encode()), w=130)
            except _NOT_OURS as odd:
                raise PdfError(f"a plot cannot be drawn: {type(odd).__name__} {odd}") from None
        self._font(8)
        self._line(caption(svg))  # the drawing library leaves titles out
        self._font(9)

    def evidence(self) -> None:
        self._heading(self._w("evidence"))
        self._line(f"record sha256 {self._report['record_sha256']}")
        for anchor in self._report["anchors"]:
            self._line(f"{anchor['where']} #{anchor['index']}: {anchor['sha256']}")
        self._line(f"{self._w('verify')}: sopgw sat verify FILE --signers allowed_signers")

    def finish(self) -> bytes:
        self._pdf.embed_file(
            bytes=json_bytes(self._report),
            basename=ATTACHMENT,
            modification_date=self._moment,
            mime_type="application/json",
        )
        return bytes(self._pdf.output())
