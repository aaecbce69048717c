"""Producers that repeat their puts until they are answered, through kills and splits: exactly once."""

import collections
import contextlib
import os
import random
import threading

from botocore.exceptions import BotoCoreError, ClientError

from node import LabError, NodeTest, main, read_shard, wait_for
from reshard_test import change_something, list_shards

KILLS = int(os.environ.get("PENSTOCK_TEST_KILLS", "8"))
SEED = int(os.environ.get("PENSTOCK_TEST_SEED", str(random.SystemRandom().randrange(1 << 32))))
Place = collections.namedtuple("Place", "shard sequence")


class Producer:
    """Numbered records in numbered calls, each repeated until all of it was answered."""

    def __init__(self, name, node, keys=7, batch=20):
        self.name, self.node, self.keys, self.batch = name, node, keys, batch
        self.sequence = 0
        self.told = {}          # record -> Place
        self.repeats = 0
        self.failure = None
        self.ending = threading.Event()
        self.chance = random.Random(f"{SEED} {name}")
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            client = self.node.boto(read_timeout=5)
            client.meta.events.register("before-call.kinesis.PutRecords", self._add_header)
            while not self.ending.is_set():
                self._call(client)
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error

    def _add_header(self, params, **_):
        params["headers"]["x-penstock-producer"] = f"{self.name}; sequence={self.sequence}"

    def _call(self, client):
        self.sequence += 1
        names = [f"{self.name}-{self.sequence * self.batch + i}" for i in range(self.batch)]
        records = [{"PartitionKey": f"{self.name}-{self.chance.randrange(self.keys)}",
                    "Data": name.encode()} for name in names]
        done = False
        # At the end the last call is still carried through; and now and then one that was is again.
        while not done or self.chance.random() < 0.1:
            try:
                results = client.put_records(StreamName="s", Records=records)["Records"]
            except (BotoCoreError, ClientError) as error:
                if isinstance(error, ClientError) and \
                        error.response["ResponseMetadata"]["HTTPStatusCode"] != 500 and \
                        "Throughput" not in error.response["Error"]["Code"]:
                    raise
                self.repeats += 1
                self.ending.wait(0.01)
                continue
            done = True
            for name, result in zip(names, results):
                if "ErrorCode" in result:
                    done = False
                    continue
                place = Place(result["ShardId"], result["SequenceNumber"])
                if self.told.setdefault(name, place) != place:
                    raise LabError(f"{name} was at {self.told[name]}, and now at {place}")
            self.repeats += 0 if done else 1


class Idempotent(NodeTest):
    def test_exactly_once_through_kills_and_splits(self):
        chance = random.Random(SEED)
        print(f"seed {SEED} (PENSTOCK_TEST_SEED), {KILLS} kills", flush=True)
        node = self.node()
        node.create_stream("s", 3)
        producers = [Producer(f"p{i}", node) for i in range(4)]

        def progress(more):
            wanted = [len(producer.told) + more for producer in producers]
            wait_for(lambda: any(p.failure for p in producers) or
                     all(len(p.told) >= want for p, want in zip(producers, wanted)),
                     "every producer to go on", 30)
        for kill in range(KILLS):
            progress(60)
            client = node.boto()
            # Every second time while shards are changed.
            killer = threading.Timer(chance.random() * 0.05, node.kill)
            killer.start()
            if kill % 2:
                with contextlib.suppress(BotoCoreError):
                    change_something(client, chance)
            killer.join()
            node.start()
            node.wait_active("s")
        progress(60)
        for producer in producers:
            producer.ending.set()
        for producer in producers:
            producer.thread.join(60)
            if producer.failure:
                raise producer.failure
        self.check(node, producers)
        metrics = node.metrics()
        print(f"{sum(len(p.told) for p in producers)} records, {sum(p.repeats for p in producers)} "
              f"calls repeated, {sum(metrics.by('penstock_repeated_records_total', 'group').values()):.0f} "
              "records known since the last start", flush=True)
        self.assertGreater(sum(p.repeats for p in producers), 0)

    def check(self, node, producers):
        client = node.boto()
        found, last = {}, collections.defaultdict(int)
        for shard in sorted(shard["ShardId"] for shard in list_shards(client)):   # parents first
            for record in read_shard(client, "s", shard):
                name = record["Data"].decode()
                if name in found:
                    raise LabError(f"{name} is there twice: {found[name]} and {shard}")
                found[name] = Place(shard, record["SequenceNumber"])
                number = int(name.split("-")[1])
                if number <= last[record["PartitionKey"]]:
                    raise LabError(f"{name} of {record['PartitionKey']} comes after "
                                   f"{last[record['PartitionKey']]}")
                last[record["PartitionKey"]] = number
        for producer in producers:
            self.assertEqual(len(producer.told), producer.sequence * producer.batch)
            for name, place in producer.told.items():
                self.assertEqual(found.get(name), place)
        self.assertEqual(len(found), sum(len(producer.told) for producer in producers))


if __name__ == "__main__":
    main()
