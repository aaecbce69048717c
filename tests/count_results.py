"""Counts test cases in a meson testlog.json: prints "PASSED FAILED".

One meson test is one program; what its cases are is read from what GoogleTest or unittest said.
"""

import json
import re
import sys


def cases(test):
    output = (test.get("stdout") or "") + "\n" + (test.get("stderr") or "")
    good = test["result"] in ("OK", "EXPECTEDFAIL")
    if test["result"] == "SKIP":
        return 0, 0
    google = re.search(r"\[=+\] (\d+) tests? from .* ran\.", output)
    unittest = re.search(r"^Ran (\d+) tests? in ", output, re.MULTILINE)
    if google:
        passed = sum(int(n) for n in re.findall(r"\[  PASSED  \] (\d+) tests?\.", output))
        failed = sum(int(n) for n in re.findall(r"\[  FAILED  \] (\d+) tests?, listed", output))
    elif unittest:
        failed = sum(int(n) for n in re.findall(r"(?:failures|errors)=(\d+)", output))
        skipped = sum(int(n) for n in re.findall(r"skipped=(\d+)", output))
        passed = int(unittest[1]) - failed - skipped
    else:
        passed, failed = (1, 0) if good else (0, 1)
    if not good and failed == 0:
        failed = 1   # it crashed, timed out or leaked
    return passed, failed


def main():
    total = [0, 0]
    with open(sys.argv[1], encoding="utf-8") as log:
        for line in log:
            passed, failed = cases(json.loads(line))
            total[0] += passed
            total[1] += failed
    print(*total)


if __name__ == "__main__":
    main()
