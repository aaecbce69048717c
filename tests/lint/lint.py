#!/usr/bin/env python3
"""Checks the rules of the house that a compiler does not: who may include whom, sizes, words, links.

Prints each finding as `file:line: what was found; what to do instead`, one summary line per check,
`N passed, N failed` last; exit code 0 only without findings. --self-test plants a violation of each
kind in a temporary tree and demands that it is found, and that a clean tree has none.
"""

import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile

Finding = collections.namedtuple("Finding", "path line found instead")

LAYERS = ["storage", "dataplane", "control", "tools"]      # each may include those before it
TOP_LEVEL = {"meson.build", "meson_options.txt", "dataplane", "storage", "control", "tools",
             "bench", "tests", "docs", "README.md", "LICENSE", "CONTRIBUTING.md"}
FILE_LINES_MAX = 900
COLUMNS_MAX = 100
CPP = (".h", ".cc")

# (what the code must not contain, what to use, folders it holds for; () is everywhere)
HOT = ("storage/", "dataplane/")
BANNED = [
    (r"\bv?sprintf\s*\(", "use snprintf or fmt::format_to_n with the buffer's size", ()),
    (r"\b(?:strcpy|strcat|stpcpy)\s*\(", "use std::string_view or memcpy with a checked length", ()),
    (r"(?<![\w.>])s?rand\s*\(", "use a generator that is passed in, so that a seed repeats a run", ()),
    (r"(?<!\w)gets\s*\(", "use a read with a bound", ()),
    (r"\b(?:atoi|atol|atoll|atof)\s*\(", "use std::from_chars, which reports bad input", ()),
    (r"\bstd::endl\b", "write '\\n'; a flush is a system call", HOT),
    (r"(?<![\w.>])(?:u|nano)?sleep\s*\(\s*[\w&]+[^;{]*\)\s*;|\bthis_thread::sleep_for\s*\(",
     "wait on a descriptor or the engine with a timeout", HOT),
    (r"\busing\s+namespace\s+std\s*;", "name what is used: std::span", ()),
    (r"\bthrow\b(?!\s*\(\s*\))", "return a Result; exceptions are off here", HOT),
]
# Places where a sleep is the right thing, each with its reason.
SLEEP_ALLOWED = {
    "dataplane/lane/idle.cc": "the adaptive idle policy sleeps in bounded steps by design",
}
# Written in halves, so that this file passes its own check.
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
MACHINE_PATH = re.compile(r"(?<![\w.~$}-])/(?:ho" + r"me|wo" + r"rk|ro" + r"ot)(?=/|\b)(?!\.)")


def tracked_files(top):
    """Files that git knows or would take; everything when the tree is not a work tree."""
    listed = subprocess.run(["git", "-C", top, "ls-files", "-z", "--cached", "--others",
                             "--exclude-standard"], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, check=False)
    if listed.returncode == 0:
        names = [name for name in listed.stdout.decode().split("\0") if name]
    else:
        names = []
        for folder, folders, files in os.walk(top):
            folders[:] = [f for f in folders if f != ".git" and not f.startswith("build")]
            names += [os.path.relpath(os.path.join(folder, f), top) for f in files]
    return sorted(name for name in set(names) if os.path.isfile(os.path.join(top, name)))


class Tree:
    """The files of the repository, read once."""

    def __init__(self, top):
        self.top = top
        self.names = tracked_files(top)
        self.texts = {}
        for name in self.names:
            with open(os.path.join(top, name), "rb") as file:
                content = file.read()
            if b"\0" not in content[:8192]:
                self.texts[name] = content.decode("utf-8", errors="replace")

    def cpp(self):
        return [name for name in self.texts if name.endswith(CPP)]

    def lines(self, name):
        return enumerate(self.texts[name].split("\n"), 1)


def without_comments(text):
    """C++ with comments and the insides of literals blanked; line breaks stay."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"'
                         r"|(?<!\w)'(?:\\.|[^'\\\n])+'", re.S)

    def blank(match):
        found = match.group(0)
        return "".join("\n" if c == "\n" else " " for c in found) if found[0] == "/" else \
            '"' + "".join("\n" if c == "\n" else " " for c in found[1:-1]) + '"'
    return pattern.sub(blank, text)


def check_dependencies(tree):
    """includes point one way"""
    include = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]')
    for name in tree.cpp():
        layer = name.split("/")[0]
        for number, line in tree.lines(name):
            match = include.match(line)
            if not match:
                continue
            what = match.group(2)
            target = what.split("/")[0]
            if layer in LAYERS and target in LAYERS and "/" in what:
                if LAYERS.index(target) > LAYERS.index(layer):
                    yield Finding(name, number, f"{layer}/ includes {what}",
                                  f"turn it round: {target}/ may include {layer}/, "
                                  "or pass an interface in")
                elif name.startswith("storage/base/") and not what.startswith("storage/base/"):
                    yield Finding(name, number, f"storage/base/ includes {what}",
                                  "storage/base/ depends on nothing of the project; move the code")
            if layer in LAYERS and target in ("tests", "bench"):
                yield Finding(name, number, f"{layer}/ includes {what}",
                              "the product includes no test code; move what is shared")
            if match.group(1) == '"' and what.startswith((".", "..")):
                yield Finding(name, number, f"relative include {what}",
                              "include from the repository root")


def check_engines(tree):
    """DPDK, liburing and HTTP headers stay in their rooms"""
    include = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]')
    for name in tree.cpp():
        if name.split("/")[0] not in LAYERS:
            continue
        for number, line in tree.lines(name):
            match = include.match(line)
            if not match:
                continue
            what = match.group(1)
            if os.path.basename(what).startswith("rte_") and not name.startswith(
                    ("dataplane/port/", "dataplane/eal.")):
                yield Finding(name, number, f"includes {what}",
                              "rte_* belongs to dataplane/port/ and dataplane/eal.*; "
                              "go through the Port interface")
            if what.startswith("liburing") and not name.startswith("storage/io/") and \
                    name != "tools/penstock/doctor.cc":
                yield Finding(name, number, f"includes {what}",
                              "liburing belongs to storage/io/; go through IoEngine")
            if what.startswith("intel-ipsec-mb") and name != "dataplane/session/aead.cc":
                yield Finding(name, number, f"includes {what}",
                              "it belongs to dataplane/session/aead.cc; go through Aead")
            if name.startswith("storage/") and re.search(
                    r"nghttp2|llhttp|picohttp|curl/|simdjson|rapidjson|openssl/ssl", what):
                yield Finding(name, number, f"includes {what}",
                              "storage/ knows no HTTP; do it in control/")


def check_sizes(tree):
    """files and lines have a bound"""
    for name in tree.cpp():
        count = tree.texts[name].count("\n")
        if count > FILE_LINES_MAX:
            yield Finding(name, count, f"{count} lines", f"at most {FILE_LINES_MAX}: "
                          "there is a second room in it, give it a file")
        for number, line in tree.lines(name):
            # One raw string a line is data; broken in two it would read worse.
            if len(line) > COLUMNS_MAX and not line.lstrip().startswith('R"'):
                yield Finding(name, number, f"{len(line)} columns",
                              f"at most {COLUMNS_MAX}: break the line")
            if "\t" in line:
                yield Finding(name, number, "a tab", "four spaces")


def check_banned(tree):
    """no banned calls"""
    rules = [(re.compile(pattern), instead, folders) for pattern, instead, folders in BANNED]
    for name in tree.cpp():
        for number, line in enumerate(without_comments(tree.texts[name]).split("\n"), 1):
            for pattern, instead, folders in rules:
                if folders and not name.startswith(folders):
                    continue
                match = pattern.search(line)
                if match and not ("sleep" in match.group(0) and name in SLEEP_ALLOWED):
                    yield Finding(name, number, f"`{match.group(0).strip()}`", instead)


def check_unfinished(tree):
    """no marks of unfinished work"""
    for name in tree.texts:
        for number, line in tree.lines(name):
            match = UNFINISHED.search(line)
            if match:
                yield Finding(name, number, match.group(0),
                              "finish it, or write an issue and remove the mark")


def check_pragma(tree):
    """headers are guarded"""
    for name in tree.texts:
        if name.endswith(".h") and not re.search(r"^#pragma once$", tree.texts[name], re.M):
            yield Finding(name, 1, "no `#pragma once`", "add it below the opening comment")


def check_paths(tree):
    """no paths of one machine"""
    for name in tree.texts:
        for number, line in tree.lines(name):
            match = MACHINE_PATH.search(line)
            if match:
                yield Finding(name, number, f"the absolute path {match.group(0)}…",
                              "a path from the repository root, an option, or a temporary folder")


def anchor_of(heading, used):
    """The anchor forges make of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    text = re.sub(r"[`*]", "", text)
    anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
    used[anchor] += 1
    return anchor if used[anchor] == 1 else f"{anchor}-{used[anchor] - 1}"


def prose_of(text):
    """Markdown lines outside fenced code, numbered."""
    fenced = False
    for number, line in enumerate(text.split("\n"), 1):
        if re.match(r"\s*(```|~~~)", line):
            fenced = not fenced
        elif not fenced:
            yield number, line


def anchors_in(text):
    used = collections.Counter()
    found = set(re.findall(r'<a\s+(?:id|name)="([^"]+)"', text))
    for _, line in prose_of(text):
        match = re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
        if match:
            found.add(anchor_of(match.group(1), used))
    return found


def check_links(tree):
    """links in the documents lead somewhere"""
    link = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
    for name in tree.texts:
        if not name.endswith(".md"):
            continue
        for number, line in prose_of(tree.texts[name]):
            for target in link.findall(re.sub(r"`[^`]*`", "", line)):
                if re.match(r"[a-z][a-z+.-]*:", target):
                    continue
                path, _, anchor = target.partition("#")
                file = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
                # Of the repository, not of this machine: an empty folder is in no clone.
                if file != "." and file not in tree.names and \
                        not any(other.startswith(file + "/") for other in tree.names):
                    yield Finding(name, number, f"a link to {target}, and {file} isn't there",
                                  "link to a file that exists, from this file's own folder")
                elif anchor and file in tree.texts and anchor not in anchors_in(tree.texts[file]):
                    yield Finding(name, number, f"a link to {target}, and no heading makes #{anchor}",
                                  f"take the anchor of a heading of {file}")


def check_top_level(tree):
    """the top level holds what was agreed"""
    for entry in sorted({name.split("/")[0] for name in tree.names}):
        if entry not in TOP_LEVEL and not entry.startswith("."):
            yield Finding(entry, 1, "a new entry at the top level",
                          "put it into one of " + ", ".join(sorted(TOP_LEVEL)))


def check_scripts(tree):
    """executable scripts say what runs them"""
    for name in tree.texts:
        runs = os.access(os.path.join(tree.top, name), os.X_OK)
        if runs and not tree.texts[name].startswith("#!"):
            yield Finding(name, 1, "executable, without a #! line",
                          "add `#!/usr/bin/env bash` (or python3), or chmod -x")
        if not runs and tree.texts[name].startswith("#!") and not name.endswith(".in"):
            yield Finding(name, 1, "a #! line, and not executable", "chmod +x, or drop the line")


def check_drop_reasons(tree):
    """every drop reason is reached by a test"""
    where = "dataplane/drop.h"
    text = without_comments(tree.texts.get(where, ""))
    listed = re.search(r"enum class DropReason[^{]*\{(.*?)\}", text, re.S)
    tests = "\n".join(without_comments(content) if name.endswith(CPP) else content
                      for name, content in tree.texts.items()
                      if name.startswith("tests/") and name.endswith(CPP + (".py",))
                      and name != "tests/lint/lint.py")
    for reason in re.findall(r"\w+", listed.group(1) if listed else ""):
        if reason in ("none", "count_"):
            continue
        # Python's tests find a reason by its label, C++ by its name; C++ literals are blank here.
        if not re.search(rf"DropReason::{reason}\b|AppendVerdict::{reason}\b|[\"']{reason}[\"']", tests):
            number = text[:text.index(reason, listed.start(1))].count("\n") + 1
            yield Finding(where, number, f"no test reaches the reason {reason}",
                          f"write one that looks at DropReason::{reason} or the label")


CHECKS = [check_dependencies, check_engines, check_sizes, check_banned, check_unfinished,
          check_pragma, check_paths, check_links, check_top_level, check_scripts,
          check_drop_reasons]


def check_headers(tree):
    """every header compiles alone"""
    flags = ["-std=c++23", "-fsyntax-only", "-x", "c++", "-I", tree.top, "-mavx2", "-mpclmul",
             "-maes", "-msse4.2"]
    wanted = subprocess.run(["pkg-config", "--cflags", "libdpdk", "spdlog", "liburing"],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    flags += wanted.stdout.decode().split()
    compiler = os.environ.get("CXX", "g++").split()
    for name in tree.texts:
        if not name.endswith(".h") or name.split("/")[0] not in LAYERS:
            continue
        done = subprocess.run(compiler + flags + ["-"], cwd=tree.top, text=True,
                              input=f'#include "{name}"\n#include "{name}"\n',
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            errors = [line for line in done.stdout.split("\n") if "error" in line]
            first = errors[0].strip() if errors else done.stdout.strip()[:200]
            yield Finding(name, 1, f"does not compile alone: {first}", "include what it uses")


def run_checks(top, checks, quiet=False):
    """Runs the checks, prints findings and a line each; returns findings by check."""
    tree = Tree(top)
    result = {}
    for check in checks:
        result[check] = list(check(tree))
        if quiet:
            continue
        for finding in result[check]:
            print(f"{finding.path}:{finding.line}: {finding.found}; {finding.instead}")
        count = len(result[check])
        print(f"{'ok   ' if count == 0 else 'FAIL '} {check.__doc__}"
              + (f": {count} findings" if count else ""), flush=True)
    return result


# (check, file, content, executable, words the finding must have). Each is planted alone.
PLANTED = [
    (check_dependencies, "storage/log/a.h", '#pragma once\n#include "dataplane/lane/b.h"\n', 0,
     "storage/ includes"),
    (check_dependencies, "dataplane/a.cc", '#include "control/http/b.h"\n', 0, "dataplane/ includes"),
    (check_dependencies, "control/a.cc", '#include "tools/x.h"\n', 0, "control/ includes"),
    (check_dependencies, "storage/base/a.cc", '#include "storage/io/b.h"\n', 0, "storage/base/"),
    (check_dependencies, "tools/a.cc", '#include "tests/b.h"\n', 0, "tools/ includes tests"),
    (check_dependencies, "tools/a.cc", '#include "../b.h"\n', 0, "relative"),
    (check_engines, "dataplane/lane/a.cc", "#include <rte_mbuf.h>\n", 0, "rte_mbuf"),
    (check_engines, "storage/log/a.cc", "#include <rte_ring.h>\n", 0, "rte_ring"),
    (check_engines, "storage/log/a.cc", "#include <liburing.h>\n", 0, "liburing"),
    (check_engines, "tools/penstock/b.cc", "#include <liburing.h>\n", 0, "liburing"),
    (check_engines, "storage/log/a.cc", "#include <nghttp2/nghttp2.h>\n", 0, "nghttp2"),
    (check_drop_reasons, "dataplane/drop.h",
     "#pragma once\nenum class DropReason : int {\n    none,\n    lost,  // why\n    count_\n};\n", 0,
     "reason lost"),
    (check_sizes, "control/a.cc", "\n" * 901, 0, "901 lines"),
    (check_sizes, "control/a.cc", "// " + "a" * 98 + "\n", 0, "101 columns"),
    (check_sizes, "control/a.cc", "\tint a;\n", 0, "tab"),
    (check_banned, "tools/a.cc", "int f(char* p) { return sprintf(p, \"x\"); }\n", 0, "sprintf"),
    (check_banned, "tools/a.cc", "void f(char* p) { strcpy(p, \"x\"); }\n", 0, "strcpy"),
    (check_banned, "tests/a.cc", "int f() { return std::rand(); }\n".replace("std::", ""), 0, "rand"),
    (check_banned, "tools/a.cc", "void f(char* p) { gets(p); }\n", 0, "gets"),
    (check_banned, "tools/a.cc", "int f(char* p) { return atoi(p); }\n", 0, "atoi"),
    (check_banned, "storage/io/a.cc", "void f() { std::cout << std::endl; }\n", 0, "endl"),
    (check_banned, "dataplane/a.cc", "void f() { usleep(5); }\n", 0, "usleep"),
    (check_banned, "storage/io/a.cc", "void f() { std::this_thread::sleep_for(d); }\n", 0, "sleep_for"),
    (check_banned, "tools/a.cc", "using namespace std;\n", 0, "using namespace std"),
    (check_banned, "storage/io/a.cc", "void f() { throw 1; }\n", 0, "throw"),
    (check_unfinished, "docs/a.md", "# A\n\nTO" + "DO: write\n", 0, "TO" + "DO"),
    (check_unfinished, "tools/a.cc", "// FIX" + "ME later\n", 0, "FIX" + "ME"),
    (check_pragma, "tools/a.h", "int f();\n", 0, "#pragma once"),
    (check_paths, "tools/a", "#!/bin/sh\ncd /ho" + "me/me\n", 1, "absolute path"),
    (check_paths, "docs/a.md", "see /wo" + "rk/x\n", 0, "absolute path"),
    (check_paths, "tools/a.cc", 'auto p = "/ro' + 'ot/x";\n', 0, "absolute path"),
    (check_links, "docs/a.md", "[b](b.md)\n", 0, "isn't there"),
    (check_links, "README.md", "# Top\n\n[x](#elsewhere)\n", 0, "no heading"),
    (check_links, "docs/a.md", "[up](../..)\n", 0, "isn't there"),
    (check_top_level, "src/a.cc", "int a;\n", 0, "top level"),
    (check_scripts, "tools/a", "echo\n", 1, "without a #!"),
    (check_scripts, "tools/a.sh", "#!/bin/sh\n", 0, "not executable"),
    (check_headers, "tools/a.h", "#pragma once\nstd::string f();\n", 0, "does not compile alone"),
]
# Nothing of this may be found.
CLEAN = [
    ("storage/base/a.h", "#pragma once\n#include <cstdint>\n", 0),
    ("storage/log/a.cc", '#include "storage/base/a.h"\n// sprintf( and usleep( and throw in prose\n'
     'const char* s = "rand()";\n', 0),
    ("storage/io/b.cc", '#include <liburing.h>\nint fsprintf_like(int);\n', 0),
    ("dataplane/port/c.cc", '#include <rte_mbuf.h>\n#include "storage/base/a.h"\n', 0),
    ("tools/penstock/doctor.cc", '#include <liburing.h>\n#include "control/http/x.h"\n', 0),
    ("control/http/x.h", "#pragma once\n", 0),
    ("README.md", "# Top\n\n[rules](docs/a.md#the-rules-of-a) and [top](#top)\n", 0),
    ("docs/a.md", "# The rules of `a`\n\n```\n[not](a-link)\n```\n[up](../README.md)\n", 0),
    ("tools/run", "#!/usr/bin/env bash\nls /tmp/ho" + "me-made\n", 1),
    (".gitignore", "/build*/\n", 0),
]


def write_file(top, name, content, runs):
    path = os.path.join(top, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(content)
    os.chmod(path, 0o755 if runs else 0o644)


def self_test():
    """Plants each violation alone; returns (passed, failed)."""
    passed = failed = 0
    for check, name, content, runs, words in PLANTED:
        with tempfile.TemporaryDirectory(prefix="penstock-lint-") as top:
            write_file(top, name, content, runs)
            found = run_checks(top, [check], quiet=True)[check]
            if len(found) == 1 and words in found[0].found and found[0].instead:
                passed += 1
            else:
                failed += 1
                print(f"FAIL  {check.__doc__}: {words!r} planted in {name}, found {found}")
    with tempfile.TemporaryDirectory(prefix="penstock-lint-") as top:
        for name, content, runs in CLEAN:
            write_file(top, name, content, runs)
        for check, found in run_checks(top, CHECKS, quiet=True).items():
            if found:
                failed += 1
                print(f"FAIL  {check.__doc__}: a clean tree, and found {found}")
            else:
                passed += 1
    return passed, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("top", nargs="?", help="the repository; default: the one this file is in",
                        default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    parser.add_argument("--headers", action="store_true",
                        help="compile every header alone too (a minute or more)")
    parser.add_argument("--self-test", action="store_true",
                        help="plant a violation of each kind and demand that it is found")
    options = parser.parse_args()
    if options.self_test:
        passed, failed = self_test()
    else:
        checks = CHECKS + ([check_headers] if options.headers else [])
        result = run_checks(os.path.realpath(options.top), checks)
        failed = sum(1 for found in result.values() if found)
        passed = len(result) - failed
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
