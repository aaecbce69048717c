"""Counts test cases in a meson testlog.json: prints "PASSED FAILED", then a line or two for each
case that failed: its name, and the last that its traceback or assertion said.

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
        passed = max(0, int(unittest[1]) - failed - skipped)   # one test may fail in several parts
    else:
        passed, failed = (1, 0) if good else (0, 1)
    if not good and failed == 0:
        failed = 1   # it crashed, timed out or leaked
    return passed, failed


def reasons(test):
    """What failed in this program, in few lines."""
    output = (test.get("stdout") or "") + "\n" + (test.get("stderr") or "")
    said = []
    # unittest: a rule, "FAIL: name", a rule, the traceback, whose last line is the reason.
    for block in re.split(r"^={70}$", output, flags=re.MULTILINE)[1:]:
        block = re.split(r"^-{70}\nRan ", block, flags=re.MULTILINE)[0]
        lines = [line for line in block.splitlines() if line.strip()]
        at = [line.strip() for line in lines if line.startswith("  File ")]
        said.append(f"{lines[0]}: {lines[-1].strip()[:600]}" + (f" ({at[0]})" if at else ""))
    # GoogleTest: "file:line: Failure", what differs, "[  FAILED  ] name (n ms)".
    failure = []
    for line in output.splitlines():
        if re.search(r": Failure$", line):
            failure = [line]
        elif failure and len(failure) < 5 and not line.startswith("["):
            failure.append(line.strip())
        elif re.match(r"\[  FAILED  \] .* \(\d+ ms\)$", line):
            said.append(f"{line[13:]}: {' '.join(failure)[:600]}")
            failure = []
    if failure:   # the program ended before GoogleTest could name the case
        said.append(f"{test['result']}: {' '.join(failure)[:600]}")
    if not said:
        said = [f"{test['result']}: " + " | ".join(output.strip().splitlines()[-3:])[:600]]
    return [f"{test['name']}: {one}" for one in said]


def main():
    total = [0, 0]
    failed_cases = []
    with open(sys.argv[1], encoding="utf-8") as log:
        for line in log:
            test = json.loads(line)
            passed, failed = cases(test)
            if failed:
                failed_cases += reasons(test)
            total[0] += passed
            total[1] += failed
    print(*total)
    for case in failed_cases:
        print(case)


if __name__ == "__main__":
    main()
