"""Nodes, links and clients for the integration tests; see tools/quickstart.d/lab.py."""

import json
import os
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools", "quickstart.d"))

# pylint: disable=unused-import,wrong-import-position
from lab import (AWS, PYTHON, LabError, Link, Metrics, Node, Tap, client_environment, ending_on_signals,
                 free_port, put_all, read_shard, read_stream, run, shard_ids, wait_for)

BINARY = os.path.abspath(os.environ.get("PENSTOCK_BINARY", os.path.join(ROOT, "build", "penstock")))

# Small, so that a test starts fast and can fill things.
SMALL = ["--journal-size", "16MiB", "--container-size", "16MiB", "--memory", "32MiB"]


def new_node(*arguments, **kwargs):
    return Node(BINARY, [*SMALL, *arguments], **kwargs)


def penstock(*words, timeout=60, **kwargs):
    """One run of the program; never raises for its exit code."""
    return run(BINARY, *words, check=False, timeout=timeout, **kwargs)


def javascript(script, *arguments, timeout=120, **variables):
    """What a script of javascript/ printed, with the packages that tools/install-deps --dev installs."""
    modules = os.path.join(ROOT, "build-npm", "node_modules")
    if not os.path.isdir(modules):
        raise LabError(f"found no {modules}; run tools/install-deps --dev")
    environment = {**client_environment(), "NODE_PATH": modules, "NODE_NO_WARNINGS": "1", **variables}
    done = run("node", os.path.join(ROOT, "tests", "integration", "javascript", script), *arguments,
               env=environment, timeout=timeout)
    return json.loads(done.stdout)


class NodeTest(unittest.TestCase):
    """A test case whose nodes and links are removed, and whose node logs are shown on failure."""

    def setUp(self):
        self.nodes = []

    def node(self, *arguments, start=True, **kwargs):
        node = new_node(*arguments, **kwargs)
        self.nodes.append(node)
        self.addCleanup(node.close)
        if start:
            node.start()
        return node

    def link(self, *arguments, **kwargs):
        link = Link(*arguments, **kwargs)
        self.addCleanup(link.close)
        return link

    def _callTestMethod(self, method):
        try:
            super()._callTestMethod(method)
        except BaseException:
            for node in self.nodes:
                print(f"-- last words of the node on {node.data}: {node.last_words(15)}",
                      file=sys.stderr)
            raise

    def assert_committed(self, node, stream, count, seconds=10):
        def committed():
            return node.metrics().get("penstock_records_committed_total", stream=stream) >= count
        wait_for(committed, f"{count} records of {stream} to be committed", seconds)


def main():
    if not os.access(BINARY, os.X_OK):
        sys.exit(f"found no program at {BINARY}; expected a build there, or PENSTOCK_BINARY")
    with ending_on_signals():
        unittest.main(verbosity=2, warnings="ignore")   # boto3 leaves closing sockets to the collector
