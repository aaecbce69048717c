"""Writes docs/openapi.json as the C++ source of rest::openapi_json; fails if it is no JSON."""

import json
import sys

# Compilers need not take longer ones.
LITERAL_MAX = 16000


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        text = file.read()
    json.loads(text)
    if ')json"' in text:
        sys.exit(f'{sys.argv[1]}: expected no )json" in it, which ends a C++ literal')
    pieces = [text[at:at + LITERAL_MAX] for at in range(0, len(text), LITERAL_MAX)]
    literal = "\n".join(f'R"json({piece})json"' for piece in pieces)
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write('#include "control/rest/openapi.h"\n\nnamespace penstock::rest {\n\n'
                   f"const std::string_view openapi_json =\n{literal};\n\n"
                   "}  // namespace penstock::rest\n")


main()
