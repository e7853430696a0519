"""C2SP tlog-policy files: which log, which witnesses, and how many of them must have signed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ledger.log import checkpoint, note
from ledger.log.note import Key, Note, NoteError

POLICY_BYTES_MAX = 1 << 20
NONE = "none"


class PolicyError(Exception):
    """A policy file is wrong; says the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """A log or a witness: its key and where it answers."""

    key: Key
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """So many of some witnesses or groups."""

    threshold_count: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A whole policy; ``quorum`` names a witness, a group, or ``none``."""

    logs: tuple[Party, ...]
    witnesses: Mapping[str, Party]
    groups: Mapping[str, Group]
    quorum: str

    def keys(self) -> list[Key]:
        """All keys that may stand under a checkpoint."""
        return [p.key for p in (*self.logs, *self.witnesses.values())]

    def met(self, good: Iterable[Key]) -> bool:
        """Whether a set of verified keys satisfies the quorum."""
        present = list(good)
        return self.quorum == NONE or self.member_met(self.quorum, present)

    def member_met(self, name: str, good: list[Key]) -> bool:
        """Whether one witness or group is satisfied."""
        if name in self.witnesses:
            return self.witnesses[name].key in good
        group = self.groups[name]
        return sum(self.member_met(m, good) for m in group.members) >= group.threshold_count

    def check(self, signed: Note) -> list[Key]:
        """The verified keys under a checkpoint; raises NoteError when they do not suffice."""
        good = checkpoint.verified_keys(signed, self.keys())
        if not any(log.key in good for log in self.logs):
            raise NoteError("checkpoint is not signed by a log of the policy")
        if not self.met(good):
            raise NoteError(f"checkpoint does not meet the quorum {self.quorum}")
        return good


class Lines:
    """A policy while it is read."""

    def __init__(self) -> None:
        self.logs: list[Party] = []
        self.witnesses: dict[str, Party] = {}
        self.groups: dict[str, Group] = {}
        self.quorum: str | None = None

    def log(self, words: list[str]) -> None:
        """``log <vkey> [url]``."""
        if len(words) not in (1, 2):
            raise PolicyError("log takes a key and perhaps a URL")
        key = note.parse_vkey(words[0])
        if key.algorithm_code != note.ED25519:
            raise PolicyError("a log's key is an Ed25519 note key")
        self.logs.append(Party(key=key, url="".join(words[1:])))

    def witness(self, words: list[str]) -> None:
        """``witness <name> <vkey> [url]``."""
        if len(words) not in (2, 3):
            raise PolicyError("witness takes a name, a key and perhaps a URL")
        self.fresh(words[0])
        key = note.parse_vkey(words[1])
        if key.algorithm_code == note.ED25519:
            raise PolicyError("a witness's key is a cosignature key")
        self.witnesses[words[0]] = Party(key=key, url="".join(words[2:]))

    def group(self, words: list[str]) -> None:
        """``group <name> all|any|<k> <member>...``."""
        if len(words) < 3:
            raise PolicyError("group takes a name, a threshold and members")
        name, threshold, *members = words
        self.fresh(name)
        if len(set(members)) != len(members) or any(m not in self.names() for m in members):
            raise PolicyError("a group's members are known names, each once")
        counts = {"all": len(members), "any": 1}
        if threshold not in counts and not (threshold.isascii() and threshold.isdigit()):
            raise PolicyError("a threshold is all, any or a number")
        count = counts[threshold] if threshold in counts else int(threshold)
        if not 1 <= count <= len(members):
            raise PolicyError(f"threshold {threshold} of {len(members)} members")
        self.groups[name] = Group(threshold_count=count, members=tuple(members))

    def set_quorum(self, words: list[str]) -> None:
        """``quorum <name>|none``."""
        if self.quorum is not None or len(words) != 1:
            raise PolicyError("exactly one quorum line with one name")
        if words[0] != NONE and words[0] not in self.names():
            raise PolicyError(f"quorum {words[0]} is not a known name")
        self.quorum = words[0]

    def names(self) -> set[str]:
        """Names a group or the quorum may refer to."""
        return {*self.witnesses, *self.groups}

    def fresh(self, name: str) -> None:
        """Refuse a name that is taken."""
        if name == NONE or name in self.names():
            raise PolicyError(f"name {name} is taken")


def parse(text: str) -> Policy:
    """Parse a policy file."""
    lines = Lines()
    kinds = {
        "log": lines.log,
        "witness": lines.witness,
        "group": lines.group,
        "quorum": lines.set_quorum,
    }
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] not in kinds:
            raise PolicyError(f"line {number}: unknown word {words[0]}")
        try:
            kinds[words[0]](words[1:])
        except (PolicyError, NoteError) as error:
            raise PolicyError(f"line {number}: {error}") from None
    if lines.quorum is None:
        raise PolicyError("there is no quorum line")
    return Policy(
        logs=tuple(lines.logs),
        witnesses=lines.witnesses,
        groups=lines.groups,
        quorum=lines.quorum,
    )


def load(path: Path) -> Policy:
    """Read a policy file."""
    try:
        data = path.read_bytes()
        if len(data) > POLICY_BYTES_MAX:
            raise PolicyError(f"{path} is too large")
        return parse(data.decode())
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PolicyError(f"{path} is not text") from None
