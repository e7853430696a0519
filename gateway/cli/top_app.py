"""The Textual program behind ``sopgw top``: boxes of lines, keys, one question a second.

It asks through the socket like everybody else and orders nothing but ``ack`` and ``shelve``.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen, Screen
from textual.widgets import Input, Static

from gateway.hmi import terminal as view
from gateway.hmi.svg import Point
from gateway.model.units import UnitError, parse_int

if sys.version_info >= (3, 12):
    from typing import override
else:
    from typing_extensions import override

Ask = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]
SAMPLES_MAX = 900  # a quarter of an hour at one a second
VIEWS = ("overview", "trades", "ledger", "alarms", "help")
HELP = """\
 1 overview   2 trades   3 ledger   4 alarms   ? this page   q quit
 t next terminal (curve and PQ)          p Braille or plain plots
 ↑ ↓ choose an alarm                     a acknowledge it
 s shelve it: type the time and why      u bring the shelved ones back

 P is positive when the converter injects into its feeder: ◀; ▶ takes from it.
 ● is now, ◇ the setpoint; the circle is the rating, cut at the site's limits.
 ■1 act at once  ▼2 act soon  ▲3 act in time  ●4 diagnostic  ! not acknowledged
 Nothing here moves power: sopgw stop, arm, mode and point set do."""
FOOT = " 1 Overview 2 Trades 3 Ledger 4 Alarms │ t Terminal a Ack s Shelve ? Help q Quit"


class Shelve(ModalScreen[str | None]):
    """Asks for how long and why; Esc leaves."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave")]
    CSS = "Shelve { align: center middle; } #ask { width: 60; border: solid $foreground; }"

    def __init__(self, code: str) -> None:
        super().__init__()
        self._code = code

    @override
    def compose(self) -> ComposeResult:
        field = Input(placeholder="1h meter is replaced", id="ask")
        field.border_title = f"shelve {self._code}: how long, and why"
        yield field

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Return what was typed."""
        self.dismiss(event.value)

    def action_leave(self) -> None:
        """Shelve nothing."""
        self.dismiss(None)


class TopApp(App[None]):
    """One screen of a site."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { background: ansi_default; color: ansi_default; layout: vertical; }
    Static { background: ansi_default; }
    .bar { height: 1; text-style: reverse; }
    .box { border: solid ansi_default; border-title-style: bold; padding: 0; }
    #middle { height: auto; }
    #pq { width: 30; }
    #plot { width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(n), f"view('{name}')", name) for n, name in enumerate(VIEWS[:4], 1)),
        Binding("question_mark", "view('help')", "Help"),
        Binding("t", "terminal", "Terminal"),
        Binding("p", "plain", "Plain"),
        Binding("up", "choose(-1)", "Up"),
        Binding("down", "choose(1)", "Down"),
        Binding("a", "ack", "Acknowledge"),
        Binding("s", "shelve", "Shelve"),
        Binding("u", "unshelve", "Unshelve"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, *, ask: Ask, every_s: float = 1.0, plain: bool = False) -> None:
        """Ask the gateway through ``ask``, every so many seconds."""
        super().__init__(ansi_color=True)
        self._ask = ask
        self._every_s = every_s
        self._plain = plain
        self._status: Mapping[str, Any] | None = None
        self._entries: list[Mapping[str, Any]] = []
        self._history: dict[str, deque[tuple[int, int, int]]] = {}
        self._index = -1  # of the chosen terminal; −1: the first that is not the master
        self._cursor = 0
        self._view = "overview"
        self._said = "asking the gateway …"

    @override
    def compose(self) -> ComposeResult:
        yield Static(id="head", classes="bar")
        with Vertical():
            yield Static(id="diagram", classes="box")
            with Horizontal(id="middle"):
                yield Static(id="plot", classes="box")
                yield Static(id="pq", classes="box")
            yield Static(id="trades", classes="box")
            yield Static(id="alarms", classes="box")
            yield Static(id="whole", classes="box")
        yield Static(id="ledger", classes="bar")
        yield Static(FOOT, id="foot")

    async def on_mount(self) -> None:
        """Begin to ask."""
        self.set_interval(self._every_s, self.refresh_status)
        await self.refresh_status()

    def on_resize(self) -> None:
        """Draw for the new size."""
        self.draw()

    async def refresh_status(self) -> None:
        """Ask once and draw; a gateway that does not answer is said, the last picture stays."""
        try:
            answer = await self._ask({"verb": "status"})
            if answer.get("ok"):
                self._take(answer["status"])
                self._said = ""
            else:
                self._said = str(answer.get("error"))
            if self._view == "ledger":
                self._entries = (await self._ask({"verb": "entries"})).get("entries", [])
        except (OSError, TimeoutError, ValueError) as error:
            self._said = f"no gateway answers ({type(error).__name__})"
        self.draw()

    def _take(self, status: Mapping[str, Any]) -> None:
        self._status = status
        for t in status["terminals"]:
            kept = self._history.setdefault(t["id"], deque(maxlen=SAMPLES_MAX))
            at_us = status["utc_ms"] * 1000
            if not kept or kept[-1][0] < at_us:
                kept.append((at_us, t["p_w"], t["p_w_set"]))

    # Drawing

    def draw(self) -> None:
        """Put the present status into the boxes that this size and this view have."""
        if not self.screen_stack or not self.screen_stack[0].query("#head"):
            return  # a size comes before the boxes do
        width = self.size.width
        status = self._status
        overview = self._view == "overview"
        self._box("whole").display = not overview
        for name in ("diagram", "trades", "alarms"):
            self._box(name).display = overview
        self._home.query_one("#middle").display = overview
        if status is None:
            self._box("head").update(view.fitted(f" {self._said}", width))
            return
        head = view.header(status, width)
        self._box("head").update(view.fitted(f" {self._said}", width) if self._said else head)
        self._box("ledger").update(view.ledger_line(status, width))
        if overview:
            self._overview(status, width)
        else:
            self._whole(status, width)

    def _overview(self, status: Mapping[str, Any], width: int) -> None:
        terminals = status["terminals"]
        tall = view.heights(rows_count=self.size.height, terminals_count=max(1, len(terminals)))
        inner = width - 2
        self._fill("diagram", view.diagram(status, inner), tall.diagram_height, "One-line")
        self._box("diagram").border_subtitle = view.bus_line(status)
        self._home.query_one("#middle").display = tall.plot_height > 0 and bool(terminals)
        if tall.plot_height and terminals:
            self._middle(self._chosen(terminals), tall.plot_height, width)
        now_us = status["utc_ms"] * 1000
        rows = view.trades(status["trades"], now_us, width=inner, count=tall.trades_height - 2)
        self._fill("trades", rows, tall.trades_height, "Trades")
        lines = view.alarms(
            status["alarm_rows"], width=inner, count=tall.alarms_height - 2, cursor=self._cursor
        )
        self._fill("alarms", lines, tall.alarms_height, view.alarm_counts(status["alarm_rows"]))
        self._box("alarms").update(self._coloured(lines))

    def _middle(self, terminal: Mapping[str, Any], rows_count: int, width: int) -> None:
        kept = self._history.get(terminal["id"], ())
        measured: list[Point] = [(at, p / 1000) for at, p, _ in kept]
        wanted: list[Point] = [] if terminal["master"] else [(at, s / 1000) for at, _, s in kept]
        inner = rows_count - 2
        drawn = view.curve(measured, wanted, width=width - 32, height=inner, plain=self._plain)
        self._fill("plot", drawn, rows_count, f"P {terminal['id']}, kW: measured, set dotted")
        self._fill(
            "pq", view.circle(terminal, width=28, height=inner), rows_count, view.loading(terminal)
        )

    def _whole(self, status: Mapping[str, Any], width: int) -> None:
        inner, rows_count = width - 2, self.size.height - 3
        count = rows_count - 2
        if self._view == "trades":
            now_us = status["utc_ms"] * 1000
            lines = view.trades(status["trades"], now_us, width=inner, count=count)
        elif self._view == "ledger":
            lines = view.entry_lines(self._entries[-count:], width=inner)
        elif self._view == "alarms":
            lines = self._alarm_page(status["alarm_rows"], inner)
        else:
            lines = HELP.split("\n")
        self._fill("whole", lines[:count], rows_count, self._view.capitalize())
        if self._view == "alarms":
            self._box("whole").update(self._coloured(lines[:count]))

    def _alarm_page(self, rows: list[Mapping[str, Any]], width: int) -> list[str]:
        count = 2 * len(rows) + 1
        lines = view.alarms(rows, width=width, count=count, cursor=self._cursor)
        for row in rows:
            if row["shelved_until_us"] is not None:
                said = f"shelved by {row['shelved_by']}: {row['shelved_why']}"
                lines.append(view.fitted(f" {view.alarm_line(row)}  {said}", width))
        return lines

    def _coloured(self, lines: list[str]) -> Text:
        """Colour alarms by priority, on top of shape, number and word."""
        colours = {"■": "red", "▼": "yellow", "▲": "cyan", "●": "magenta"}
        text = Text("\n".join(lines), no_wrap=True)
        at = 0
        for line in lines:
            glyph = next((g for g in colours if line[1:2] == g), None)
            if glyph is not None:
                text.stylize(f"{colours[glyph]} bold", at + 1, at + 3)
            at += len(line) + 1
        return text

    def _fill(self, name: str, lines: list[str], rows_count: int, title: str) -> None:
        box = self._box(name)
        box.styles.height = rows_count
        box.border_title = title
        box.update(Text("\n".join(lines), no_wrap=True))

    @property
    def _home(self) -> Screen[Any]:
        """The view itself, also while a question stands before it."""
        return self.screen_stack[0]

    def _box(self, name: str) -> Static:
        return self._home.query_one(f"#{name}", Static)

    def _chosen(self, terminals: list[Mapping[str, Any]]) -> Mapping[str, Any]:
        if self._index < 0:
            return next((t for t in terminals if not t["master"]), terminals[0])
        return terminals[self._index % len(terminals)]

    # Keys

    async def action_view(self, name: str) -> None:
        """Show another view."""
        self._view = name
        await self.refresh_status()

    def action_terminal(self) -> None:
        """Show the next terminal's curve and circle."""
        terminals = list(self._status["terminals"]) if self._status else []
        if terminals:
            here = terminals.index(self._chosen(terminals))
            self._index = (here + 1) % len(terminals)
        self.draw()

    def action_plain(self) -> None:
        """Draw with Braille dots, or without."""
        self._plain = not self._plain
        self.draw()

    def action_choose(self, step: str | int) -> None:
        """Choose another alarm."""
        seen = view.listed(self._status["alarm_rows"]) if self._status else []
        self._cursor = min(max(self._cursor + int(step), 0), max(0, len(seen) - 1))
        self.draw()

    def _alarm(self) -> str | None:
        seen = view.listed(self._status["alarm_rows"]) if self._status else []
        return str(seen[min(self._cursor, len(seen) - 1)]["code"]) if seen else None

    async def action_ack(self) -> None:
        """Acknowledge the chosen alarm."""
        code = self._alarm()
        if code is not None:
            await self._order({"verb": "ack", "code": code})

    def action_shelve(self) -> None:
        """Ask for time and reason, then shelve the chosen alarm."""
        code = self._alarm()
        if code is None:
            return

        async def shelve(typed: str | None) -> None:
            if not typed:
                return
            span, _, why = typed.partition(" ")
            try:
                for_s = parse_int(span, "time")
            except UnitError as error:
                self._said = f"{error}; {error.help}"
                self.draw()
                return
            await self._order({"verb": "shelve", "code": code, "for_s": for_s, "reason": why})

        self.push_screen(Shelve(code), shelve)

    async def action_unshelve(self) -> None:
        """Bring every shelved alarm back."""
        rows = self._status["alarm_rows"] if self._status else []
        for row in [r for r in rows if r["shelved_until_us"] is not None]:
            await self._order({"verb": "unshelve", "code": row["code"]})

    async def _order(self, request: Mapping[str, Any]) -> None:
        try:
            answer = await self._ask(request)
        except (OSError, TimeoutError, ValueError) as error:
            self._said = f"no gateway answers ({type(error).__name__})"
            self.draw()
            return
        await self.refresh_status()
        if not answer.get("ok"):
            self._said = str(answer.get("error"))
            self.draw()
