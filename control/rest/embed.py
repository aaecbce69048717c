"""Writes docs/openapi.json as the C++ source of rest::openapi_json; fails if it is no JSON."""

import json
import sys


def main():
    with open(sys.argv[1], "rb") as file:
        text = file.read()
    json.loads(text)
    # Numbers, as compilers need not take a literal that long.
    lines = [", ".join(str(byte) for byte in text[at:at + 20]) for at in range(0, len(text), 20)]
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write('#include "control/rest/openapi.h"\n\nnamespace penstock::rest {\n\n'
                   "namespace {\nconst unsigned char bytes[] = {\n" + ",\n".join(lines) + "};\n}\n\n"
                   "const std::string_view openapi_json(reinterpret_cast<const char*>(bytes),\n"
                   "                                    sizeof bytes);\n\n"
                   "}  // namespace penstock::rest\n")


main()
