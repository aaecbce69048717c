"""Three small file systems of their own, filled to the last block, and mounts that fail."""

import os
import subprocess
import tempfile
import time
import unittest

from botocore.exceptions import ClientError

from load import Load
from node import LabError, NodeTest, main, penstock, put_all, read_shard, run, shard_ids, wait_for

# The least mkfs.xfs takes is 300 MiB.
SIZE_MIB = 320


class FileSystems:
    """Three loop mounts; kept apart from the node, so that they can fail on their own."""

    def __init__(self, kind):
        self.directory = tempfile.mkdtemp(prefix="penstock-disks-")
        self.kind = kind
        self.places, self.mounted = [], set()
        try:
            for i in range(3):
                image = self.image(i)
                with open(image, "wb") as file:
                    file.truncate(SIZE_MIB << 20)
                run(*{"ext4": ["mkfs.ext4", "-q", "-m", "0"], "xfs": ["mkfs.xfs", "-q"]}[kind], image)
                self.places.append(os.path.join(self.directory, f"disk-{i}"))
                os.mkdir(self.places[i])
                self.mount(i)
        except BaseException:
            self.close()
            raise

    def image(self, i):
        return os.path.join(self.directory, f"image-{i}")

    def mount(self, i):
        run("mount", "-o", "loop", self.image(i), self.places[i])
        self.mounted.add(i)
        lost = os.path.join(self.places[i], "lost+found")
        if os.path.isdir(lost):
            os.rmdir(lost)   # ext4's own; a replica's directory must be empty at first

    def unmount(self, i):
        def gone():
            return run("umount", self.places[i], check=False).returncode == 0
        wait_for(gone, f"{self.places[i]} to be unmounted", 10)
        self.mounted.discard(i)

    def fill(self, i):
        """To the last block; returns the file that took it."""
        path = os.path.join(self.places[i], "ballast")
        with open(path, "wb", buffering=0) as file:
            for size in (1 << 20, 4096, 512):
                try:
                    while file.write(b"b" * size):
                        pass
                except OSError:
                    pass
            try:
                os.fsync(file.fileno())
            except OSError:
                pass
        return path

    def close(self):
        for i in sorted(self.mounted):
            run("umount", "-l", self.places[i], check=False)
        run("rm", "-rf", self.directory, check=False)


class DiskFull(NodeTest):
    def systems(self, kind):
        systems = FileSystems(kind)
        self.addCleanup(systems.close)
        return systems

    def fill_by_writing(self, node, client, stream):
        """Until the node pushes back for long; returns what was acknowledged."""
        acked, refused_since = [], None
        while refused_since is None or time.monotonic() - refused_since < 3:
            records = [{"PartitionKey": f"k{i}", "Data": os.urandom(16) * 2000} for i in range(60)]
            try:
                answer = client.put_records(StreamName=stream, Records=records)["Records"]
            except ClientError:
                answer = [{"ErrorCode": "whole call"}] * len(records)
            self.assertTrue(node.alive(), node.last_words())
            good = [(r["ShardId"], r["SequenceNumber"], records[i]["Data"])
                    for i, r in enumerate(answer) if "ErrorCode" not in r]
            acked += good
            if good:
                refused_since = None
            elif refused_since is None:
                refused_since = time.monotonic()
            self.assertLess(len(acked) * 32000, SIZE_MIB << 20, "the disk never fills")
        return acked

    def check(self, client, stream, acked):
        found = {}
        for shard in shard_ids(client, stream):
            for record in read_shard(client, stream, shard):
                found[(shard, record["SequenceNumber"])] = record["Data"]
        for shard, sequence, data in acked:
            self.assertEqual(found.get((shard, sequence)), data)

    def fills_and_recovers(self, kind):
        systems = self.systems(kind)
        node = self.node("--groups", "1", data=systems.places)
        client = node.boto()
        for stream in ("keep", "drop"):
            node.create_stream(stream, 2, client)
        kept = put_all(client, "keep", [("k", b"%d" % i) for i in range(200)])
        acked = self.fill_by_writing(node, client, "drop")
        self.assertGreater(len(acked) * 32000, (SIZE_MIB << 20) // 5)
        self.assertEqual(node.metrics().get("penstock_disk_full"), 1)

        # The last block too, by somebody else's file.
        ballast = [systems.fill(i) for i in range(3)]
        time.sleep(2)
        self.assertTrue(node.alive())
        self.check(client, "drop", acked)
        # A start on a full disk.
        self.assertEqual(node.stop(), 0)
        node.start()
        client = node.boto()
        self.check(client, "drop", acked)

        for path in ballast:
            os.remove(path)
        client.delete_stream(StreamName="drop")
        wait_for(lambda: node.metrics().get("penstock_disk_full") == 0, "writes to resume", 30)
        put_all(client, "keep", [("k", b"%d" % i) for i in range(200, 2000)])
        records = [r for s in shard_ids(client, "keep") for r in read_shard(client, "keep", s)]
        self.assertEqual([int(r["Data"]) for r in records], list(range(2000)))
        self.assertEqual(kept[0]["SequenceNumber"], records[0]["SequenceNumber"])
        # What was freed can be filled again: nothing leaks.
        node.create_stream("drop", 2, client)
        again = self.fill_by_writing(node, client, "drop")
        self.assertGreater(len(again), len(acked) * 0.8)
        self.assertEqual(node.stop(), 0)

    def test_ext4_filled_to_the_last_block(self):
        self.fills_and_recovers("ext4")

    def test_xfs_filled_to_the_last_block(self):
        self.fills_and_recovers("xfs")

    def test_one_full_disk_stops_nobody(self):
        systems = self.systems("ext4")
        node = self.node("--groups", "1", data=systems.places)
        node.create_stream("s", 2)
        ballast = systems.fill(2)
        load = Load("s", size=8000)
        load.start(node)
        load.wait_progress(4000, 60)
        os.remove(ballast)
        load.end()
        load.check(node.boto())

    def test_a_new_set_without_room_for_its_journals_says_so(self):
        data = [word for place in self.systems("ext4").places for word in ("--data", place)]
        done = penstock("serve", "--unsigned", "--http", "127.0.0.1:0", "--journal-size", "1GiB", *data)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("the drives are full", done.stderr.splitlines()[-1])
        self.assertIn("--groups times --journal-size", done.stderr.splitlines()[-1])

    def test_failed_mounts_are_no_first_start(self):
        systems = self.systems("ext4")
        node = self.node("--groups", "1", data=systems.places)
        node.create_stream("s", 2)
        load = Load("s")
        load.start(node)
        load.wait_progress(1000)
        load.end()
        self.assertEqual(node.stop(), 0)
        for i in range(3):
            systems.unmount(i)
        with self.assertRaisesRegex(LabError, "ended with 1"):
            node.start("--existing")
        self.assertEqual([os.listdir(place) for place in systems.places], [[], [], []])
        systems.mount(0)
        systems.mount(1)
        # One mount failed: the empty directory beneath it must stay empty.
        node.start("--existing")
        load.check(node.boto())
        self.assertEqual(os.listdir(systems.places[2]), [])
        systems.mount(2)
        wait_for(lambda: all(node.metrics().get("penstock_replica_state", replica=str(i),
                                                state="voting") == 1 for i in range(3)),
                 "the third to be back", 30)
        load.check(node.boto())

    def test_io_errors_of_a_real_file_system(self):
        systems = self.systems("xfs")
        node = self.node("--groups", "1", data=systems.places)
        node.create_stream("s", 2)
        load = Load("s")
        load.start(node)
        load.wait_progress(500)
        # xfs forgets its log and answers EIO from now on.
        run("xfs_io", "-x", "-c", "shutdown", systems.places[1])
        load.wait_progress(1000)
        load.end()
        load.check(node.boto())
        self.assertTrue(node.alive())
        self.assertEqual(node.metrics().get("penstock_replica_state", replica="1", state="voting"), 0)
        run("umount", systems.places[1], check=False)


if __name__ == "__main__":
    main()
