"""Bad input of every kind, and the watch over a door while it is tried: see ``fuzz_doors.py``."""

import asyncio
import contextlib
import copy
import json
import logging
import ssl
import sys
from http.client import responses

TRACES = (b"Traceback", b'File "')
BROKEN = b"HTTP/1.1 500"
ANSWER_S = 60.0
PAGE_S = 0.2  # half a request waits for its other half: enough to see whether it is answered
AT_ONCE = 16
DEEP = 60
WORDS = (
    "null", "{}", "[]", "[1, 2]", "{a: {b: c}}", "''", "-1", "0", "1.5", "1e309", ".nan", "-.inf",
    "yes", "0x7fffffff", "18446744073709551616", "2026-02-30", "12:61", "!!python/object:os.system",
    "&a [*a]", "*nowhere", "<<: *x", "'\ud83d\ude00'", "A" * 3000, "|", ">-", "\t", "'", '"', "%",
    "@", "`", "? :", "- - -", "../../etc/passwd", "/dev/zero", "1 kW", "10 parsecs", "-0 %",
)  # fmt: skip
VALUES = (
    None, True, -1, 0, 1, 2**31, 2**53, 2**63, 10**30, -(10**400), 1.5, 1e308, float("inf"), "",
    "x", "\x00", "\ud83d", "A" * 5000, [], {}, [[]], {"": None}, [None] * 300, "2026-02-30T25:61Z",
    "../../etc/passwd", "NaN", "１２", "\u202e", {"__class__": "x"},
)  # fmt: skip


def mutated(piece, chance):
    """Change a piece: bits, cuts, repeats, sizes, rubbish."""
    data = bytearray(piece)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randrange(1, 20)]
            case 2:
                data[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 12)))
            case 3:
                data[at:at] = data[: chance.randrange(len(data) + 1)]
            case 4:
                data[at:at] = chance.choice((b"../", b"%00", b"\0", b"\r\n", b"{{", b"\xff\xfe"))
            case 5:
                data[at:at] = str(chance.choice((-1, 2**31, 2**64, 10**30, "NaN", 1e309))).encode()
            case _:
                odd = (b"[" * 300, b"[" * 6000, b"A" * 3000, b'"\\ud800"', b": " * 99)
                data[at:at] = chance.choice(odd)
    return bytes(data)


def odd_tree(tree, chance, values=VALUES):
    """Change a tree of JSON at some places: other kinds, other sizes, missing, repeated, deep."""
    tree = copy.deepcopy(tree)
    for _ in range(chance.randint(1, 3)):
        places = [(None, None), *_places(tree)]
        holder, key = chance.choice(places)
        if holder is None:
            tree = {"body": tree} if chance.random() < 0.5 else [tree]
        elif chance.random() < 0.2:
            del holder[key]
        elif chance.random() < 0.1:
            value = holder[key]
            for _ in range(DEEP):
                value = [value]
            holder[key] = value
        elif isinstance(holder, dict) and chance.random() < 0.1:
            holder[chance.choice(("", "x", "__proto__", "\u0000", "A" * 2000))] = holder[key]
        else:
            holder[key] = copy.deepcopy(chance.choice(values))
    return tree


def _places(tree):
    held = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(held) if isinstance(tree, dict | list) else ():
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


def odd_json(piece, chance):
    """Change a JSON document as bytes or as a tree."""
    try:
        tree = json.loads(piece)
    except (ValueError, RecursionError):
        return mutated(piece, chance)
    if chance.random() < 0.4:
        return mutated(piece, chance)
    ascii_only = chance.random() < 0.5
    text = json.dumps(odd_tree(tree, chance), ensure_ascii=ascii_only)
    return text.encode(errors="surrogatepass")


def odd_lines(piece, chance):
    """Change a text of lines (YAML): values, indents, order; or as bytes."""
    if chance.random() < 0.3:
        return mutated(piece, chance)
    lines = piece.decode().split("\n")
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(lines))
        line = lines[at]
        match chance.randrange(6):
            case 0:
                del lines[at : at + chance.randint(1, 3)]
            case 1:
                lines.insert(chance.randrange(len(lines) + 1), line)
            case 2:
                lines[at] = " " * chance.randint(1, 5) + line
            case 3:
                lines[at] = line.lstrip()
            case _:
                head, colon, _ = line.partition(":")
                lines[at] = f"{head}{colon} {chance.choice(WORDS)}"
        lines = lines or [""]
    return "\n".join(lines).encode(errors="surrogatepass")


def http(method, path, body=b"", *headers):
    """Write a request whose length fits its body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def answer_of(opening, data, *, ends, wait_s=ANSWER_S):
    """Send one piece and read until the door has answered or closed."""
    try:
        reader, writer = await opening()
    except (ConnectionError, ssl.SSLError):
        return b""  # a door may close at once; whether it still serves is asked anyway
    got = b""
    try:
        writer.write(data)
        if ends and writer.can_write_eof():
            writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while piece := await reader.read(65536):
                    got += piece
                    if not ends or len(got) > 1 << 20:
                        break
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
            async with asyncio.timeout(wait_s):
                await writer.wait_closed()
    return got


class Watch(logging.Handler):
    """Hears what a door says of itself: an exception in a log or in the loop is a defect."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.heard = []

    def emit(self, record):
        if record.exc_info and record.exc_info[0] is not None:
            self.heard.append(f"{record.name}: {record.getMessage()}: {record.exc_info[1]!r}")

    def told(self, _loop, context):
        error = context.get("exception")
        if not isinstance(error, ConnectionError | ssl.SSLError | None):
            self.heard.append(f"{context['message']}: {error!r}")

    def asked(self):
        """Return what was heard since; nothing is as it should be."""
        heard, self.heard = self.heard, []
        return heard


@contextlib.contextmanager
def watching():
    """Listen to logs and loop."""
    watch, loop = Watch(), asyncio.get_running_loop()
    logging.getLogger().addHandler(watch)
    loop.set_exception_handler(watch.told)
    try:
        yield watch
    finally:
        loop.set_exception_handler(None)
        logging.getLogger().removeHandler(watch)


async def at_door(name, opening, make, count, still_good, counts, **how):
    """Try ``count`` pieces at a door, some at once; raise at the first defect or silence.

    ``make`` gives the next piece; ``counts`` takes what came of each.
    """

    async def one():
        data = make()
        got = await answer_of(opening, data, **how)
        if any(word in got for word in TRACES) or got.startswith(BROKEN):
            raise SystemExit(f"{name}: a defect after {data!r}: {got[:300]!r}")
        status = got[9:12].decode(errors="replace") if got.startswith(b"HTTP/1.") else ""
        said = f"HTTP {status[:1]}xx" if status.isdigit() and int(status) in responses else "said"
        counts[name, said if got else "closed or kept waiting"] += 1

    with watching() as watch:
        for done in range(0, count, AT_ONCE):
            await asyncio.gather(*(one() for _ in range(min(AT_ONCE, count - done))))
            if heard := watch.asked():
                raise SystemExit(f"{name}: {heard[0]}")
            if done % 500 < AT_ONCE or done + AT_ONCE >= count:
                await still_good()
        print(f"{name}: {count} pieces", file=sys.stderr)
