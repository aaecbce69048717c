"""`penstock consume` against a running node: everything once, in order, through splits and merges."""

import base64
import collections
import json
import os
import signal
import subprocess
import tempfile
import time

from load import Load
from node import BINARY, LabError, NodeTest, client_environment, main, put_all, run, wait_for


class Consumer:
    """One `penstock consume`, its output appended to a file."""

    def __init__(self, node, stream, out, *words, credential=None):
        self.out = open(out, "ab")
        self.err = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [BINARY, "consume", stream, "--endpoint", node.url, *words], stdin=subprocess.DEVNULL,
            stdout=self.out, stderr=self.err,
            env=client_environment(credential or node.credential))

    def end(self, with_signal=None, seconds=30):
        """Its exit code."""
        if with_signal is not None:
            self.process.send_signal(with_signal)
        try:
            return self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.out.close()

    def errors(self):
        self.err.seek(0)
        return self.err.read().decode()


def lines_of(path):
    """Whole lines; one that a SIGKILL cut is left out."""
    with open(path, "rb") as file:
        return [json.loads(line) for line in file if line.endswith(b"\n")]


def data_of(record):
    return base64.b64decode(record["data_base64"]) if "data_base64" in record \
        else record["data"].encode()


class Consume(NodeTest):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.out = os.path.join(directory.name, "out")
        self.checkpoint = os.path.join(directory.name, "checkpoint")

    def consume(self, node, *words, credential=None, code=0):
        """One run to its end; its standard output."""
        done = subprocess.run([BINARY, "consume", "s", "--endpoint", node.url, *words],
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
                              env=client_environment(credential or node.credential))
        self.assertEqual(done.returncode, code, done.stderr.decode())
        if code:
            self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
        return done.stdout if code == 0 else done.stderr.decode()

    def records(self, node, *words):
        return [json.loads(line) for line in self.consume(node, *words).splitlines()]

    def check(self, client, load, once):
        """Every acknowledged record, per shard in order; parents before their children."""
        shards = {shard["ShardId"]: shard for shard in client.list_shards(StreamName="s")["Shards"]}
        found, highest, of_key, first = {}, {}, {}, {}
        for at, record in enumerate(lines_of(self.out)):
            shard, number = record["shard_id"], int(record["sequence_number"])
            name = record["data"].split(" ", 1)[0]
            if not once and name in found:
                self.assertEqual(found[name], (shard, record["sequence_number"]))
                continue    # it was written out again behind a checkpoint
            self.assertNotIn(name, found)
            found[name] = (shard, record["sequence_number"])
            self.assertGreater(number, highest.get(shard, 0), f"{name} in {shard}")
            highest[shard] = number
            count = int(name.split("-")[1])
            self.assertGreater(count, of_key.get(record["partition_key"], -1), name)
            of_key[record["partition_key"]] = count
            first.setdefault(shard, at)
        lost = [name for name, ack in load.acked.items() if found.get(name) != (ack.shard, ack.sequence)]
        self.assertFalse(lost, f"{len(lost)} of {len(load.acked)} are not there")
        self.assertGreater(len(first), 3, "splits and merges made more shards")
        for shard in first:
            for parent in ("ParentShardId", "AdjacentParentShardId"):
                if shards[shard].get(parent) in first:
                    self.assertLess(first[shards[shard][parent]], first[shard])

    def change_shards(self, node, client, load):
        def span(shard):
            return int(shard["HashKeyRange"]["StartingHashKey"]), int(shard["HashKeyRange"]["EndingHashKey"])
        def listed():
            shards = client.list_shards(StreamName="s", ShardFilter={"Type": "AT_LATEST"})["Shards"]
            return sorted(shards, key=span)
        load.wait_progress(60)
        chosen = listed()[0]
        client.split_shard(StreamName="s", ShardToSplit=chosen["ShardId"],
                           NewStartingHashKey=str(sum(span(chosen)) // 2))
        node.wait_active("s", client)
        load.wait_progress(60)
        shards = listed()
        client.merge_shards(StreamName="s", ShardToMerge=shards[1]["ShardId"],
                            AdjacentShardToMerge=shards[2]["ShardId"])
        node.wait_active("s", client)
        load.wait_progress(60)

    def seen(self, names):
        """Whether these are written out."""
        with open(self.out, "rb") as file:
            text = file.read()
        return all(b'"data":"%s ' % name.encode() in text for name in names)

    def follow_through_changes(self, stop, once):
        node = self.node(signed="everything")
        node.create_stream("s", 2)
        client = node.boto()
        load = Load("s", pause=0.01)
        words = ["--follow", "--poll-ms", "20", "--checkpoint", self.checkpoint]
        consumer = Consumer(node, "s", self.out, *words)
        load.start(node)
        for _ in range(2):
            self.change_shards(node, client, load)
            sample = list(load.acked)[:50]
            wait_for(lambda: self.seen(sample), "the first records to be written out")
            self.assertEqual(consumer.end(stop), 0 if once else -stop, consumer.errors())
            load.wait_progress(60)
            consumer = Consumer(node, "s", self.out, *words)
        load.end()
        names = list(load.acked)
        wait_for(lambda: self.seen(names), "all records to be written out", 30, 0.1)
        self.assertEqual(consumer.end(signal.SIGTERM), 0, consumer.errors())
        self.check(client, load, once)
        # What the checkpoint says is what there is: nothing comes again.
        self.assertEqual(self.records(node, "--checkpoint", self.checkpoint), [])

    def test_every_record_once_in_order_through_splits_merges_and_interrupts(self):
        self.follow_through_changes(signal.SIGINT, once=True)

    def test_nothing_is_lost_when_it_is_killed(self):
        self.follow_through_changes(signal.SIGKILL, once=False)

    def test_positions_limits_and_formats(self):
        node = self.node()
        node.create_stream("s", 1)
        client = node.boto()
        put_all(client, "s", [("k", b"r%d" % i) for i in range(20)])
        time.sleep(0.002)   # the next record arrives in another millisecond
        binary = b"\xff\x00\n"
        put_all(client, "s", [("ключ", binary)])
        everything = self.records(node)
        self.assertEqual([data_of(r) for r in everything], [b"r%d" % i for i in range(20)] + [binary])
        self.assertEqual(everything[20]["partition_key"], "ключ")
        shard = everything[0]["shard_id"]
        fifth = everything[5]["sequence_number"]
        for words, first in [(["--from", f"at:{fifth}"], 5), (["--from", f"after:{fifth}"], 6)]:
            self.assertEqual(self.records(node, "--shard", shard, *words), everything[first:])
        last = everything[20]["approximate_arrival_timestamp"]
        self.assertEqual(self.records(node, "--from", f"time:{last}"), everything[20:])
        self.assertEqual(self.records(node, "--from", "latest"), [])
        self.assertEqual(self.records(node, "--limit", "7"), everything[:7])
        self.assertEqual(self.consume(node, "--format", "raw"),
                         b"".join(b"r%d" % i for i in range(20)) + binary)
        self.assertEqual(self.consume(node, "--format", "lines", "--limit", "2"), b"r0\nr1\n")
        arn = client.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["StreamARN"]
        done = run(BINARY, "consume", arn, "--endpoint", node.url, "--limit", "1", timeout=60,
                   env=client_environment())
        self.assertEqual(json.loads(done.stdout), everything[0])

    def test_throttled_reads_go_on(self):
        node = self.node("--shard-quota", "aws")
        node.create_stream("s", 1)
        put_all(node.boto(), "s", [("k", b"%d" % i) for i in range(30)])
        # Eight calls at once, where five a second are allowed.
        consumer = Consumer(node, "s", self.out, "--follow", "--poll-ms", "1")
        def throttled():
            return node.metrics().get("penstock_shard_quota_refused_total", direction="read")
        self.addCleanup(consumer.process.kill)
        wait_for(lambda: len(lines_of(self.out)) == 30, "30 records")
        wait_for(throttled, "a read to be throttled")
        put_all(node.boto(), "s", [("k", b"last")])
        wait_for(lambda: len(lines_of(self.out)) == 31, "one more")
        self.assertEqual(consumer.end(signal.SIGINT), 0, consumer.errors())

    def test_the_exit_status_tells_the_truth(self):
        node = self.node(signed="everything")
        node.create_stream("s", 1)
        put_all(node.boto(), "s", [("k", b"x" * 1000) for _ in range(500)])
        wrong = {**node.credential, "secret_access_key": "wrong"}
        self.assertIn("signature", self.consume(node, credential=wrong, code=1).lower())
        self.assertIn("'shard-9'", self.consume(node, "--shard", "shard-9", code=1))
        # Nobody reads what it writes: a pipe holds 64 KiB.
        with subprocess.Popen([BINARY, "consume", "s", "--endpoint", node.url, "--checkpoint",
                               self.checkpoint], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=client_environment(node.credential)) as blocked:
            first = blocked.stdout.read(1)
            blocked.send_signal(signal.SIGINT)
            # It ends although the pipe is full; read before, it would have room to go on.
            self.assertEqual(blocked.wait(30), 130)
            rest = blocked.stdout.read()
        written = [json.loads(line) for line in (first + rest).split(b"\n")[:-1]]
        self.assertLess(len(written), 500)
        later = self.records(node, "--checkpoint", self.checkpoint)
        self.assertEqual(len(written) + len(later), 500)
        self.assertGreater(int(later[0]["sequence_number"]), int(written[-1]["sequence_number"]))
        with subprocess.Popen([BINARY, "consume", "s", "--endpoint", node.url], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE,
                              env=client_environment(node.credential)) as closed:
            closed.stdout.close()
            self.assertEqual(closed.wait(30), 1)
            self.assertIn(b"standard output", closed.stderr.read())
        node.stop()
        self.assertIn(node.url, self.consume(node, "--give-up", "0", code=1))


if __name__ == "__main__":
    main()
