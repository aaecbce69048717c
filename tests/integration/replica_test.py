"""A replica removed, damaged, cut short, copied or replaced by a blank one: nothing is lost."""

import glob
import os
import random
import re
import shutil
import time
import unittest

from botocore.exceptions import ClientError

from load import Load
from node import LabError, NodeTest, main, penstock, wait_for

SEED = int(os.environ.get("PENSTOCK_TEST_SEED", str(random.SystemRandom().randrange(1 << 32))))


class Replicas(NodeTest):
    def loaded(self, records=3000, *arguments):
        """A node with something on it, and what was acknowledged."""
        node = self.node(*arguments)
        node.create_stream("s", 4)
        load = Load("s")
        load.start(node)
        load.wait_progress(records)
        load.end()
        return node, load

    @staticmethod
    def place(node, replica):
        return os.path.join(node.data[0], f"replica-{replica}")

    def whole(self, node, seconds=60):
        """Until all three replicas vote and lack nothing."""
        def look():
            metrics = node.metrics()
            return all(metrics.get("penstock_replica_state", replica=str(i), state="voting") == 1 and
                       metrics.get("penstock_replica_missing_chunks", replica=str(i)) == 0
                       for i in range(3))
        wait_for(look, "three whole replicas", seconds, step=0.05)

    def degraded(self, node, replica, seconds=15):
        wait_for(lambda: node.metrics().get("penstock_replica_state", replica=str(replica),
                                            state="voting") == 0,
                 f"replica {replica} to be out", seconds)

    def replace(self, node, replica):
        done = penstock("replica", "replace", "--data", node.data[0], self.place(node, replica))
        self.assertEqual(done.returncode, 0, done.stderr)

    def writes_more(self, node, load, records=500):
        load.start(node)
        load.wait_progress(records)
        load.end()

    def proves_its_worth(self, node, load, replica):
        """Without either of the others, the mended replica still gives everything."""
        self.assertEqual(node.stop(), 0)
        verify = penstock("inspect", "verify", node.data[0])
        self.assertEqual(verify.returncode, 0, verify.stdout + verify.stderr)
        for other in range(3):
            if other == replica:
                continue
            aside = self.place(node, other) + ".aside"
            os.rename(self.place(node, other), aside)
            node.start()
            load.check(node.boto())
            self.assertEqual(node.stop(), 0)
            shutil.rmtree(self.place(node, other), ignore_errors=True)
            os.rename(aside, self.place(node, other))
            node.start()
            self.whole(node)
            self.assertEqual(node.stop(), 0)

    # -- Between runs ------------------------------------------------------------------------------

    def test_removed_between_runs_and_replaced(self):
        for replica in range(3):
            with self.subTest(replica=replica):
                node, load = self.loaded()
                self.assertEqual(node.stop(), 0)
                shutil.rmtree(self.place(node, replica))
                node.start()
                load.check(node.boto())
                self.degraded(node, replica)
                self.writes_more(node, load)
                os.makedirs(self.place(node, replica), exist_ok=True)
                self.replace(node, replica)
                self.whole(node)
                load.check(node.boto())
                self.proves_its_worth(node, load, replica)

    def test_blank_directory_is_not_taken_without_being_told(self):
        node, load = self.loaded()
        self.assertEqual(node.stop(), 0)
        shutil.rmtree(self.place(node, 1))
        os.mkdir(self.place(node, 1))
        node.start()
        load.check(node.boto())
        time.sleep(2)
        self.assertEqual(os.listdir(self.place(node, 1)), [])

    def damage(self, node, replica, pattern, spots, chance):
        paths = sorted(glob.glob(os.path.join(self.place(node, replica), pattern)))
        self.assertTrue(paths, f"no {pattern} in replica {replica}")
        # A container that was only promised its room when the node ended has no byte yet.
        sizes = {path: os.path.getsize(path) for path in paths}
        self.assertGreater(sum(sizes.values()), 0, f"nothing in {pattern} of replica {replica}")
        for path, size in sizes.items():
            with open(path, "r+b") as file:
                for _ in range(spots if size else 0):
                    offset = chance.randrange(size)
                    file.seek(offset)
                    found = file.read(1)
                    file.seek(offset)
                    file.write(bytes([found[0] ^ 0xa5]))

    def test_corrupted_between_runs(self):
        for pattern in ("segment-*", "journal-*", "state-*", "superblock"):
            for kill in (False, True):
                with self.subTest(pattern=pattern, kill=kill):
                    chance = random.Random(SEED)
                    node, load = self.loaded()
                    if kill:
                        node.kill()
                    else:
                        self.assertEqual(node.stop(), 0)
                    # Dense enough to hit what is in use, not only what is still empty.
                    self.damage(node, 2, pattern, 4000, chance)
                    # After a kill everything may still be in the journal, and the hits beside it.
                    if pattern != "segment-*" or not kill:
                        self.assertNotEqual(
                            penstock("inspect", "verify", node.data[0]).returncode, 0)
                    node.start()
                    load.check(node.boto())
                    self.writes_more(node, load)
                    load.check(node.boto())
                    node.close()

    def test_truncated_between_runs(self):
        for pattern in ("segment-*", "journal-*", "state-*"):
            with self.subTest(pattern=pattern):
                node, load = self.loaded()
                node.kill()
                for path in glob.glob(os.path.join(self.place(node, 0), pattern)):
                    os.truncate(path, os.path.getsize(path) // 3)
                node.start()
                load.check(node.boto())
                self.writes_more(node, load)
                load.check(node.boto())
                node.close()

    def test_cloned_directory_neither_votes_nor_counts(self):
        node, load = self.loaded()
        self.assertEqual(node.stop(), 0)
        aside = self.place(node, 1) + ".aside"
        os.rename(self.place(node, 1), aside)
        shutil.copytree(self.place(node, 0), self.place(node, 1))
        node.start(ready=False)
        # Two directories say they are replica 0: neither is believed, one replica is not a quorum.
        wait_for(lambda: not node.alive() or self.refuses_writes(node), "no writes to be taken", 10)
        node.kill()
        shutil.rmtree(self.place(node, 1))
        os.rename(aside, self.place(node, 1))
        node.start()
        load.check(node.boto())
        self.writes_more(node, load)

    def refuses_writes(self, node):
        try:
            node.boto().put_record(StreamName="s", PartitionKey="k", Data=b"not to be taken")
            return False
        except ClientError:
            return True
        except Exception:  # pylint: disable=broad-except
            return False   # not listening yet

    def test_foreign_replica_is_refused(self):
        node, load = self.loaded()
        other, _ = self.loaded(200)
        self.assertEqual((node.stop(), other.stop()), (0, 0))
        shutil.rmtree(self.place(node, 2))
        shutil.copytree(self.place(other, 2), self.place(node, 2))
        node.start()
        load.check(node.boto())
        self.degraded(node, 2)

    def test_two_replicas_gone_serves_no_writes(self):
        node, load = self.loaded()
        self.assertEqual(node.stop(), 0)
        for replica in (0, 2):
            os.rename(self.place(node, replica), self.place(node, replica) + ".aside")
        node.start(ready=False)
        wait_for(lambda: not node.alive() or self.refuses_writes(node), "no writes to be taken", 10)
        node.kill()
        for replica in (0, 2):
            shutil.rmtree(self.place(node, replica), ignore_errors=True)
            os.rename(self.place(node, replica) + ".aside", self.place(node, replica))
        node.start()
        load.check(node.boto())

    # -- While it runs -----------------------------------------------------------------------------

    def test_removed_while_running_then_replaced(self):
        node, load = self.loaded()
        load.start(node)
        load.wait_progress(500)
        shutil.rmtree(self.place(node, 1))
        self.degraded(node, 1)
        load.wait_progress(1000)
        os.mkdir(self.place(node, 1))
        self.replace(node, 1)
        self.whole(node)
        load.wait_progress(500)
        load.end()
        self.assertEqual(load.refusals, {})
        load.check(node.boto())
        self.proves_its_worth(node, load, 1)

    def test_stopped_without_a_quorum_says_that_the_drain_did_not_finish(self):
        node, load = self.loaded(300)
        self.assertGreater(sum(node.metrics().by("penstock_journal_used_bytes", "group").values()), 0)
        for replica in (0, 1):
            os.rename(self.place(node, replica), self.place(node, replica) + ".aside")
        for replica in (0, 1):
            self.degraded(node, replica)
        self.assertEqual(node.stop(), 0, "nothing acknowledged is lost")
        said = re.search(r"stopped: the drain did not finish within 10 s; (\d+) bytes", node.log())
        self.assertIsNotNone(said, node.last_words(5))
        self.assertGreater(int(said[1]), 0)
        for replica in (0, 1):
            os.rename(self.place(node, replica) + ".aside", self.place(node, replica))
        node.start()
        load.check(node.boto())
        self.assertEqual(node.stop(), 0)
        self.assertIn("stopped: everything is in its segment", node.log())

    def test_away_and_back_while_running(self):
        node, load = self.loaded()
        load.start(node)
        for replica in (0, 1, 2):
            aside = self.place(node, replica) + ".aside"
            os.rename(self.place(node, replica), aside)
            self.degraded(node, replica)
            load.wait_progress(1000)
            os.rename(aside, self.place(node, replica))
            self.whole(node)
        load.end()
        load.check(node.boto())
        self.proves_its_worth(node, load, 2)

    def test_corrupted_while_running_is_never_served(self):
        chance = random.Random(SEED)
        node, load = self.loaded(6000)
        load.start(node)
        self.damage(node, 0, "segment-*", 4000, chance)
        load.wait_progress(1000)
        load.end()
        load.check(node.boto())

    def test_level_all_refuses_while_a_replica_is_out(self):
        node, load = self.loaded(500, "--ack-level", "all")
        shutil.rmtree(self.place(node, 1))
        self.degraded(node, 1)
        self.assertTrue(self.refuses_writes(node))
        load.check(node.boto())
        os.mkdir(self.place(node, 1))
        self.replace(node, 1)
        self.whole(node)
        self.writes_more(node, load)

    def test_status_tells_what_is_there(self):
        node, _ = self.loaded(200)
        done = penstock("replica", "status", "--data", node.data[0])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count("voting"), 3, done.stdout)
        self.assertEqual(node.stop(), 0)
        for replica in (0, 1):
            shutil.rmtree(self.place(node, replica))
        self.assertEqual(penstock("replica", "status", "--data", node.data[0]).returncode, 1)


if __name__ == "__main__":
    main()
