"""SIGKILL at random moments under load: what was acknowledged is there, once, in order."""

import contextlib
import os
import random
import time
import unittest

from load import Load
from node import NodeTest, main, penstock, put_all, wait_for

KILLS = int(os.environ.get("PENSTOCK_TEST_KILLS", "50"))
SEED = int(os.environ.get("PENSTOCK_TEST_SEED", str(random.SystemRandom().randrange(1 << 32))))
# A whole read of everything written costs more with each kill; so the log starts anew after these.
KILLS_PER_NODE = 25


class Kill(NodeTest):
    def test_acknowledged_records_survive_kills(self):
        chance = random.Random(SEED)
        print(f"seed {SEED} (PENSTOCK_TEST_SEED), {KILLS} kills", flush=True)
        done = 0
        while done < KILLS:
            done += self.round(chance, min(KILLS_PER_NODE, KILLS - done), done)

    def round(self, chance, kills, done):
        lanes = ["--lanes", "0,1"] if done % (2 * KILLS_PER_NODE) and os.cpu_count() > 1 else []
        node = self.node(*lanes)
        node.create_stream("s", 4)
        load = Load("s")
        slowest = 0.0
        for kill in range(kills):
            load.start(node)
            if chance.random() < 0.8:
                load.wait_progress()
            time.sleep(chance.random() ** 2 * 0.6)
            node.kill()
            load.end()
            if chance.random() < 0.2:
                self.verify(node)
            slowest = max(slowest, node.start())
            if chance.random() < 0.3 or kill == kills - 1:
                load.check(node.boto())
        self.assertEqual(node.stop(), 0)
        self.verify(node)
        print(f"{done + kills} kills; {len(load.acked)} records acknowledged in this round; slowest "
              f"start {slowest:.2f} s; refused {dict(load.refusals)}", flush=True)
        node.close()
        return kills

    def verify(self, node):
        found = penstock("inspect", "verify", node.data[0])
        self.assertEqual(found.returncode, 0, found.stdout + found.stderr)

    def test_kill_while_starting(self):
        chance = random.Random(SEED)
        node = self.node()
        node.create_stream("s", 4)
        load = Load("s")
        load.start(node)
        load.wait_progress(2000)
        node.kill()
        load.end()
        for _ in range(10):
            node.start(ready=False)
            time.sleep(chance.random() * 0.3)
            node.kill()
        node.start()
        load.check(node.boto())

    def test_kill_while_streams_come_and_go(self):
        chance = random.Random(SEED)
        node = self.node()
        made = set()
        for turn in range(6):
            client = node.boto()
            for i in range(chance.randrange(1, 6)):
                name = f"s-{turn}-{i}"
                client.create_stream(StreamName=name, ShardCount=2)
                made.add(name)
                if chance.random() < 0.3:
                    gone = chance.choice(sorted(made))
                    node.wait_active(gone, client)
                    client.delete_stream(StreamName=gone)
                    made.discard(gone)
            node.kill()
            node.start()
            client = node.boto()
            # What was deleted just before is carried on with, and listed until that is done.
            found = set(client.list_streams()["StreamNames"])
            self.assertLessEqual(made, found)
            for name in found - made:
                with contextlib.suppress(client.exceptions.ResourceNotFoundException):
                    seen = client.describe_stream_summary(StreamName=name)
                    self.assertEqual(
                        seen["StreamDescriptionSummary"]["StreamStatus"], "DELETING", name
                    )
            wait_for(lambda: set(client.list_streams()["StreamNames"]) == made, "deleted streams")
            for name in made:
                node.wait_active(name, client)
                # Room for every shard is still being asked for: pushed back, it is put again.
                put_all(client, name, [("k", b"d")])


if __name__ == "__main__":
    main()
