"""boto3 against a node: volume, iterators, pages, retention, limits, and what outlives a restart."""

import datetime
import hashlib
import os
import time
import unittest

from botocore.exceptions import ClientError

from node import NodeTest, main, put_all, read_shard, read_stream, shard_ids, wait_for


class Kinesis(NodeTest):
    def test_100k_records_through_all_shards(self):
        node = self.node()
        node.create_stream("big", 8)
        client = node.boto()
        entries = [(f"key-{i % 997}", b"%d:" % i + b"v" * (i % 200)) for i in range(100_000)]
        results = put_all(client, "big", entries)
        shards = read_stream(client, "big")
        self.assertEqual(sum(map(len, shards.values())), len(entries))
        self.assertTrue(all(shards.values()), "a shard got nothing")
        where = {(r["ShardId"], r["SequenceNumber"]): e for r, e in zip(results, entries)}
        self.assertEqual(len(where), len(entries))
        per_key = {}
        for shard, records in shards.items():
            for record in records:
                key, data = where.pop((shard, record["SequenceNumber"]))
                self.assertEqual((record["PartitionKey"], record["Data"]), (key, data))
                per_key.setdefault(key, []).append(int(data.split(b":")[0]))
        self.assertEqual(where, {})
        for key, numbers in per_key.items():
            self.assertEqual(numbers, sorted(numbers), key)

        # And once more from the disk.
        self.assertEqual(node.stop(), 0)
        node.start()
        again = read_stream(node.boto(), "big")
        self.assertEqual({s: [r["SequenceNumber"] for r in rs] for s, rs in again.items()},
                         {s: [r["SequenceNumber"] for r in rs] for s, rs in shards.items()})

    @unittest.skipIf(os.cpu_count() < 2, "needs two cores")
    def test_number_of_lanes_may_change_between_runs(self):
        node = self.node("--lanes", "0")
        node.create_stream("s", 6)
        written = []
        for turn, lanes in enumerate(("0", "0,1", "1", "0,1")):
            if turn != 0:
                self.assertEqual(node.stop(), 0)
                node.arguments[-1] = lanes
                node.start()
            client = node.boto()
            entries = [(f"key-{i % 50}", b"%d-%d" % (turn, i)) for i in range(2000)]
            put_all(client, "s", entries)
            written += entries
            per_key = {}
            for records in read_stream(client, "s").values():
                for record in records:
                    per_key.setdefault(record["PartitionKey"], []).append(record["Data"])
            wanted = {}
            for key, data in written:
                wanted.setdefault(key, []).append(data)
            self.assertEqual(per_key, wanted, f"lanes {lanes}")

    def test_keys_go_where_their_hash_says(self):
        node = self.node()
        node.create_stream("s", 3)
        client = node.boto()
        ranges = {}
        for shard in client.list_shards(StreamName="s")["Shards"]:
            ranges[shard["ShardId"]] = (int(shard["HashKeyRange"]["StartingHashKey"]),
                                        int(shard["HashKeyRange"]["EndingHashKey"]))
        bounds = sorted(ranges.values())
        self.assertEqual((bounds[0][0], bounds[-1][1]), (0, 2 ** 128 - 1))
        for (_, end), (start, _) in zip(bounds, bounds[1:]):
            self.assertEqual(end + 1, start)
        for key in ("a", "Grüße", "日本", "x" * 256):
            put = client.put_record(StreamName="s", PartitionKey=key, Data=b"d")
            number = int(hashlib.md5(key.encode()).hexdigest(), 16)
            low, high = ranges[put["ShardId"]]
            self.assertTrue(low <= number <= high, key)
        for shard, (low, high) in ranges.items():
            for number in (low, high):
                put = client.put_record(StreamName="s", PartitionKey="k", Data=b"d",
                                        ExplicitHashKey=str(number))
                self.assertEqual(put["ShardId"], shard)

    def test_iterators_of_five_types(self):
        node = self.node()
        node.create_stream("s", 1)
        client = node.boto()
        shard = shard_ids(client, "s")[0]

        def read(kind, **more):
            iterator = client.get_shard_iterator(StreamName="s", ShardId=shard,
                                                 ShardIteratorType=kind, **more)["ShardIterator"]
            return client.get_records(ShardIterator=iterator)

        first = [client.put_record(StreamName="s", PartitionKey="k", Data=b"%d" % i)
                 ["SequenceNumber"] for i in range(5)]
        # boto3 sends whole seconds.
        time.sleep(1.05 - time.time() % 1)
        middle = datetime.datetime.fromtimestamp(int(time.time()), datetime.timezone.utc)
        latest = client.get_shard_iterator(StreamName="s", ShardId=shard,
                                           ShardIteratorType="LATEST")["ShardIterator"]
        for i in range(5, 8):
            client.put_record(StreamName="s", PartitionKey="k", Data=b"%d" % i)

        def data(answer):
            return b"".join(r["Data"] for r in answer["Records"])
        self.assertEqual(data(read("TRIM_HORIZON")), b"01234567")
        self.assertEqual(data(read("AT_SEQUENCE_NUMBER", StartingSequenceNumber=first[2])),
                         b"234567")
        self.assertEqual(data(read("AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=first[2])),
                         b"34567")
        self.assertEqual(data(read("AT_TIMESTAMP", Timestamp=middle)), b"567")
        self.assertEqual(data(client.get_records(ShardIterator=latest)), b"567")
        self.assertEqual(data(read("LATEST")), b"")
        behind = read("TRIM_HORIZON")
        self.assertEqual(behind["MillisBehindLatest"], 0)
        self.assertEqual(data(client.get_records(ShardIterator=behind["NextShardIterator"])), b"")

    def test_pages_of_streams_shards_and_records(self):
        node = self.node()
        client = node.boto()
        for i in range(12):
            node.create_stream(f"stream-{i:02}", 3 if i == 0 else 1, client)
        names, start = [], {}
        while True:
            answer = client.list_streams(Limit=5, **start)
            self.assertLessEqual(len(answer["StreamNames"]), 5)
            names += answer["StreamNames"]
            if not answer["HasMoreStreams"]:
                break
            start = {"ExclusiveStartStreamName": names[-1]}
        self.assertEqual(names, [f"stream-{i:02}" for i in range(12)])
        answer = client.list_shards(StreamName="stream-00", MaxResults=2)
        self.assertEqual(len(answer["Shards"]), 2)
        more = client.list_shards(NextToken=answer["NextToken"])
        self.assertEqual(len(more["Shards"]), 1)
        self.assertNotIn("NextToken", more)
        put_all(client, "stream-01", [("k", b"%d" % i) for i in range(25)])
        shard = shard_ids(client, "stream-01")[0]
        iterator = client.get_shard_iterator(StreamName="stream-01", ShardId=shard,
                                             ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        sizes = []
        while True:
            answer = client.get_records(ShardIterator=iterator, Limit=10)
            if not answer["Records"]:
                break
            sizes.append(len(answer["Records"]))
            iterator = answer["NextShardIterator"]
        self.assertEqual(sizes, [10, 10, 5])

    def test_retention_bounds(self):
        node = self.node()
        node.create_stream("s", 1)
        client = node.boto()
        client.increase_stream_retention_period(StreamName="s", RetentionPeriodHours=8760)
        with self.assertRaisesRegex(ClientError, "InvalidArgumentException"):
            client.decrease_stream_retention_period(StreamName="s", RetentionPeriodHours=23)
        with self.assertRaisesRegex(ClientError, "InvalidArgumentException"):
            client.increase_stream_retention_period(StreamName="s", RetentionPeriodHours=48)
        client.decrease_stream_retention_period(StreamName="s", RetentionPeriodHours=24)
        self.assertEqual(node.stop(), 0)
        node.start()
        self.assertEqual(node.boto().describe_stream(StreamName="s")["StreamDescription"]
                         ["RetentionPeriodHours"], 24)

    def test_deleted_and_made_again_shares_nothing(self):
        node = self.node()
        client = node.boto()
        node.create_stream("s", 1, client)
        old = client.put_record(StreamName="s", PartitionKey="k", Data=b"old")["SequenceNumber"]
        client.delete_stream(StreamName="s")
        wait_for(lambda: not client.list_streams()["StreamNames"], "the stream to be gone")
        node.create_stream("s", 1, client)
        shard = shard_ids(client, "s")[0]
        self.assertEqual(read_shard(client, "s", shard), [])
        new = client.put_record(StreamName="s", PartitionKey="k", Data=b"new")["SequenceNumber"]
        self.assertGreater(int(new), int(old))
        self.assertEqual([r["Data"] for r in read_shard(client, "s", shard)], [b"new"])

    def test_largest_record_and_one_byte_more(self):
        node = self.node()
        node.create_stream("s", 1)
        client = node.boto()
        data = bytes(range(256)) * 4096   # 1 MiB, of which the key takes one byte
        client.put_record(StreamName="s", PartitionKey="k", Data=data[:-1])
        shard = shard_ids(client, "s")[0]
        self.assertEqual(read_shard(client, "s", shard)[0]["Data"], data[:-1])
        with self.assertRaises(ClientError):
            client.put_record(StreamName="s", PartitionKey="k", Data=data + b"+")
        self.assertEqual(len(read_shard(client, "s", shard)), 1)

    def test_empty_data_and_odd_bytes_come_back_as_they_were(self):
        node = self.node()
        node.create_stream("s", 1)
        client = node.boto()
        values = [b"", b"\0", bytes(range(256)), "ü".encode(), b"\xff" * 4097]
        for value in values:
            client.put_record(StreamName="s", PartitionKey="k", Data=value)
        self.assertEqual([r["Data"] for r in read_shard(client, "s", shard_ids(client, "s")[0])],
                         values)


if __name__ == "__main__":
    main()
