"""Command groups of sopgw, one file each, imported only when used.

A module ``gateway/cli/<name>.py`` appears as ``sopgw <name>`` by existing. It exposes a click
command or group of that name; where the name is taken (by Python or by the module itself) the same
name with an underscore. ``front`` lists them, ``root`` joins them.
"""
