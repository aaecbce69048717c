"""What a running node does about drives: it reads back what is stored, mends it, says what is lost;
fills a blank one under load; and tells when they fill up."""

import glob
import json
import os
import re
import shutil
import unittest

from botocore.exceptions import ClientError

from load import Load
from node import NodeTest, main, penstock, put_all, read_shard, shard_ids, wait_for

SCRUB = ["--scrub", "256MiB", "--scrub-every", "0"]


class Healing(NodeTest):
    @staticmethod
    def place(node, replica):
        return os.path.join(node.data[0], f"replica-{replica}")

    def passes(self, node, count=1, seconds=60):
        """Until so many passes over everything have begun and ended from now on."""
        def done():
            return node.metrics().by("penstock_scrub_passes_total", "group")
        wanted = {group: passes + count + 1 for group, passes in done().items()}
        wait_for(lambda: all(done()[group] >= least for group, least in wanted.items()),
                 f"{count} passes of scrubbing", seconds, step=0.05)

    def spots(self, node, replica, text):
        """Where a record's data stands in the replica's segment files."""
        found = []
        for path in sorted(glob.glob(os.path.join(self.place(node, replica), "segment-*"))):
            with open(path, "rb") as file:
                at = file.read().find(text)
            if at >= 0:
                found.append((path, at))
        return found

    def damage(self, node, replica, texts):
        count = 0
        for text in texts:
            for path, at in self.spots(node, replica, text):
                with open(path, "r+b") as file:
                    file.seek(at)
                    file.write(b"\xa5" * 20)
                    os.fsync(file.fileno())
                count += 1
        return count

    def stored(self, *arguments, records=2000):
        """A node all of whose records are in segments, and what was acknowledged."""
        node = self.node(*arguments, "--groups", "2")
        node.create_stream("s", 2)
        load = Load("s")
        load.start(node)
        load.wait_progress(records)
        load.end()
        # A stop moves everything to the segments.
        self.assertEqual(node.stop(), 0)
        node.start()
        return node, load

    def test_damaged_copies_are_mended_while_the_node_runs(self):
        node, load = self.stored(*SCRUB)
        names = sorted(load.acked)
        load.start(node)
        for replica in range(3):
            mine = [b"%s " % name.encode() + b"." * 50 for name in names[replica::97]]
            self.assertGreater(self.damage(node, replica, mine), 5)
            before = node.metrics().get("penstock_scrub_damaged_total", replica=str(replica))
            self.passes(node)
            self.assertGreater(node.metrics().get("penstock_scrub_damaged_total", replica=str(replica)),
                               before)
        load.end()
        metrics = node.metrics()
        self.assertEqual(metrics.get("penstock_lost_records"), 0)
        self.assertEqual(metrics.get("penstock_scrub_unresolved_total"), 0)
        self.assertGreater(metrics.get("penstock_scrub_repaired_bytes_total", replica="1"), 0)
        self.assertGreater(metrics.get("penstock_scrub_last_pass_timestamp_seconds"), 1e9)
        self.assertRegex(node.log(), r"scrub: replica \d \(\S+\) had a damaged copy \(segment-\d-\d+ at "
                                     r"byte \d+, .*of s shardId-\d{12}\); it was written again from")
        load.check(node.boto())
        self.assertEqual(node.stop(), 0)
        verify = penstock("inspect", "verify", node.data[0])
        self.assertEqual(verify.returncode, 0, verify.stdout)

    def test_what_no_replica_has_is_told_and_everything_else_is_read(self):
        node, load = self.stored(*SCRUB)
        client = node.boto()
        lost = sorted(load.acked)[len(load.acked) // 2]
        shard = load.acked[lost].shard
        for replica in range(3):
            self.assertEqual(self.damage(node, replica, [b"%s " % lost.encode() + b"." * 50]), 1)
        wait_for(lambda: node.metrics().get("penstock_lost_records") > 0, "the loss to be told", 60)
        count = node.metrics().get("penstock_lost_records")
        self.passes(node, 2)
        self.assertEqual(node.metrics().get("penstock_lost_records"), count)
        self.assertEqual(node.log().count("LOST: no replica has a good copy"), 1)
        for _ in range(2):
            gone = self.read_around(client, shard)
            self.assertEqual(len(gone), 1)
            self.assertEqual(gone[0]["count"], count)
            names = {name for name, ack in load.acked.items() if ack.shard == shard}
            # The frame with it went, and nothing besides.
            self.assertEqual(len(names - gone[0]["read"]), count)
            self.assertNotIn(lost, gone[0]["read"])
            other = {record["Data"].split()[0].decode() for other in shard_ids(client, "s")
                     if other != shard for record in read_shard(client, "s", other)}
            self.assertEqual(other, set(load.acked) - names)
            manifest = penstock("inspect", "manifest", node.data[0]).stdout
            self.assertEqual(len(re.findall(r"LOST records \d+\.\.\d+", manifest)), 1, manifest)
            self.assertEqual(node.stop(), 0)
            verify = penstock("inspect", "verify", node.data[0])
            self.assertEqual(verify.returncode, 0, verify.stdout)
            node.start()
            client = node.boto()
        self.assertEqual(node.metrics().get("penstock_lost_records"), count)

    @staticmethod
    def read_around(client, shard):
        """Reads a shard, and goes on behind what the node says is lost."""
        gone, read = [], set()
        iterator = client.get_shard_iterator(StreamName="s", ShardId=shard,
                                             ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        for _ in range(10_000):
            try:
                answer = client.get_records(ShardIterator=iterator, Limit=500)
            except ClientError as error:
                said = error.response["Error"]
                range_ = re.search(r"from index (\d+) to (\d+) of shard .*numbers from (\d+) to (\d+)\)",
                                   said["Message"])
                if said["Code"] != "InternalFailureException" or range_ is None:
                    raise
                gone.append({"count": int(range_[2]) - int(range_[1]) + 1, "read": read})
                iterator = client.get_shard_iterator(
                    StreamName="s", ShardId=shard, ShardIteratorType="AFTER_SEQUENCE_NUMBER",
                    StartingSequenceNumber=range_[4])["ShardIterator"]
                continue
            read |= {record["Data"].split()[0].decode() for record in answer["Records"]}
            if not answer["Records"] and answer["MillisBehindLatest"] == 0:
                return gone
            iterator = answer["NextShardIterator"]
        raise AssertionError("the shard never ends")

    def test_off_nothing_is_read(self):
        node, _ = self.stored("--scrub", "off")
        metrics = node.metrics()
        self.assertEqual(metrics.get("penstock_scrub_groups", state="off"), 2)
        self.assertEqual(metrics.get("penstock_scrub_read_bytes_total"), 0)

    def test_a_blank_drive_is_filled_under_load_and_shows_how_far_it_is(self):
        node, load = self.stored(records=12_000)
        load.start(node)
        shutil.rmtree(self.place(node, 1))
        wait_for(lambda: node.metrics().get("penstock_replica_state", replica="1", state="out") == 1,
                 "the replica to be out", 15)
        os.mkdir(self.place(node, 1))
        done = penstock("replica", "replace", "--wait", "--http", f"127.0.0.1:{node.http_port}",
                        "--data", node.data[0], self.place(node, 1))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("all three replicas are whole", done.stdout)
        self.assertRegex(done.stdout, r"replica 1 (out|filling)")
        load.wait_progress(500)
        load.end()
        self.assertEqual(load.refusals, {})
        self.assertRegex(node.log(), r"replica 1 \(\S+\) is complete: three copies of everything again; "
                                     r"copied [\d.]+ [KMG]iB in \d+ s")
        replicas = json.loads(node.http("/v1/replicas")[1])["replicas"]
        self.assertEqual([r["state"] for r in replicas], ["voting"] * 3)
        self.assertEqual([r["missing_bytes"] for r in replicas], [0] * 3)
        again = penstock("replica", "watch", "--http", f"127.0.0.1:{node.http_port}")
        self.assertEqual((again.returncode, again.stdout), (0, "all three replicas are whole\n"))
        # Without one of the others the new one gives everything.
        self.assertEqual(node.stop(), 0)
        shutil.rmtree(self.place(node, 0))
        node.start()
        load.check(node.boto())

    def test_watching_no_node_says_so(self):
        done = penstock("replica", "watch", "--http", "127.0.0.1:1")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)

    def test_records_put_after_a_loss_are_read_on(self):
        node = self.node(*SCRUB, "--groups", "1")
        node.create_stream("s", 1)
        client = node.boto()
        put_all(client, "s", [("k", b"%05d " % i + b"x" * 700) for i in range(300)])
        self.assertEqual(node.stop(), 0)
        for replica in range(3):
            self.damage(node, replica, [b"00299 " + b"x" * 50])   # the shard's last one
        node.start()
        client = node.boto()
        wait_for(lambda: node.metrics().get("penstock_lost_records") > 0, "the loss to be told", 60)
        put_all(client, "s", [("k", b"%05d " % i) for i in range(300, 320)])
        shard = shard_ids(client, "s")[0]
        gone = self.read_around(client, shard)
        self.assertEqual(len(gone), 1)
        self.assertTrue({"00300", "00319", "00000"} <= gone[0]["read"])


if __name__ == "__main__":
    main()
