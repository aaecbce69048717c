"""Writes a file as a C++ array: xdp_embed.py OBJECT HEADER."""

import sys

with open(sys.argv[1], "rb") as source:
    numbers = ",".join(map(str, source.read()))
with open(sys.argv[2], "w", encoding="ascii") as header:
    header.write("#pragma once\n\nnamespace penstock {\n\n"
                 f"inline constexpr unsigned char xdp_steer_object[] = {{{numbers}}};\n\n"
                 "}  // namespace penstock\n")
