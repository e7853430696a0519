"""A profile as a page for people, in Markdown."""

from __future__ import annotations

from gateway.devices.profile import Point, Profile


def page_of(profile: Profile) -> str:
    """Write everything a person compares with the manual."""
    models = ", ".join(profile.models) or "–"
    lines = [
        f"# {profile.vendor} {models} (`{profile.id}`)".replace("#  ", "# "),
        "",
        f"- Kind: {profile.kind}, protocol: {profile.protocol}, profile version {profile.format_version}",  # noqa: E501
        f"- Source of the numbers: {profile.manual or 'not named'}",
        f"- Verified: {profile.verified.level} {profile.verified.on} {profile.verified.firmware}".rstrip(),  # noqa: E501
        f"- Licence: {profile.license or 'not named'}",
    ]
    if profile.sign:
        signs = ", ".join(f"{k}: {v}" for k, v in profile.sign.items())
        lines.append(f"- Positive direction: {signs}")
    settings = profile.modbus
    if profile.protocol == "modbus":
        lines.append(
            f"- Modbus: unit {settings.unit}, bytes {settings.byte_order}, words "
            f"{settings.word_order}, at most {settings.register_count_max} registers a read, "
            f"pause {settings.pause_ms} ms"
        )
    lines += ["", "| point | place | manual | type | scale | unit | access | poll | words |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    lines += [_row(point) for point in profile.points]
    each = profile.each_terminal
    if each is not None:
        for block in each.blocks:
            lines += [
                "",
                f"## Each of {each.count} terminals: {block.name}",
                "",
                f"First at {block.register.text}, then every {block.stride_size} registers.",
                "",
                "| point | place | manual | type | scale | unit | access | poll | words |",
                "|---|---|---|---|---|---|---|---|---|",
                *(_row(point) for point in block.points),
            ]
    if profile.interlocks:
        lines += ["", "## Interlocks", ""]
        lines += [
            f"- {lock.id}: {', '.join(lock.block)} blocked when `{lock.when}` ({lock.cause})"
            for lock in profile.interlocks
        ]
    if profile.notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in profile.notes)]
    return "\n".join(lines)


def _row(point: Point) -> str:
    place = point.register.text if point.register else ""
    if point.node is not None:
        place = point.node.node or point.node.path or point.node.method
    words = {**point.label_by_code, **point.bits}
    poll = "" if point.poll_ms is None else "once" if point.poll_ms == 0 else f"{point.poll_ms} ms"
    number = "" if point.doc_number is None else str(point.doc_number)
    page = f", p. {point.page}" if point.page else ""
    cells = [
        f"`{point.name}`",
        place if point.bit_index is None else f"{place} bit {point.bit_index}",
        number + page,
        str(point.type),
        str(point.scale),
        point.unit,
        str(point.access),
        poll,
        ", ".join(f"{code} {word}" for code, word in words.items()),
    ]
    return "| " + " | ".join(cells) + " |"
