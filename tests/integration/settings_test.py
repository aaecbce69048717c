"""Records of 10 MiB through the real process, and the metrics that enhanced monitoring switches on."""

import os
import unittest

from cbor_test import Client, Failure
from node import NodeTest, main, wait_for

MIB = 1 << 20
LARGEST = 10 * MIB
ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/"


class SettingsTest(NodeTest):
    def read(self, client, stream, **more):
        iterator = client.call("GetShardIterator", StreamName=stream, ShardId="shardId-000000000000",
                               ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        records = []
        while True:
            answer = client.call("GetRecords", ShardIterator=iterator, **more)
            records += answer["Records"]
            if answer["MillisBehindLatest"] == 0 and not answer["Records"]:
                return records
            iterator = answer["NextShardIterator"]

    def test_records_of_10_mib_come_back_whole_in_both_dialects(self):
        node = self.node(start=False)
        # A shard may use a quarter of a lane's memory; the tests' usual 32 MiB never hold such a record.
        node.arguments[node.arguments.index("--memory") + 1] = "128MiB"
        node.start()
        client, boto = Client(node.url), node.boto()
        node.create_stream("s", 1)
        data = [os.urandom(LARGEST - 1), os.urandom(5 * MIB), os.urandom(LARGEST - 1), b"small",
                os.urandom(LARGEST - 2)]
        with self.assertRaises(Failure) as refused:
            client.call("PutRecord", StreamName="s", PartitionKey="k", Data=data[0])
        self.assertEqual(refused.exception.body["__type"], "ValidationException")
        client.call("UpdateMaxRecordSize", StreamARN=ARN + "s", MaxRecordSizeInKiB=10240)
        self.assertEqual(client.call("DescribeStreamSummary", StreamName="s")
                         ["StreamDescriptionSummary"]["MaxRecordSizeInKiB"], 10240)
        # A lane pushes back while earlier records are still on their way to the disks.
        def put(call):
            def stored():
                try:
                    answer = call()
                except Failure as failure:
                    self.assertEqual(failure.body["__type"],
                                     "ProvisionedThroughputExceededException")
                    return False
                except boto.exceptions.ProvisionedThroughputExceededException:
                    return False
                return answer.get("FailedRecordCount", 0) == 0
            wait_for(stored, "a record to be stored", seconds=60)
        put(lambda: client.call("PutRecord", StreamName="s", PartitionKey="k", Data=data[0]))
        put(lambda: client.call("PutRecords", StreamName="s", Records=[
            {"PartitionKey": "k", "Data": data[1]}]))
        # Base64 makes 14 MiB of it.
        put(lambda: boto.put_record(StreamName="s", PartitionKey="k", Data=data[2]))
        put(lambda: client.call("PutRecord", StreamName="s", PartitionKey="k", Data=data[3]))
        put(lambda: client.call("PutRecords", StreamName="s", Records=[
            {"PartitionKey": "k", "Data": data[4]}]))
        for limit in ({}, {"Limit": 1}):
            records = self.read(client, "s", **limit)
            self.assertEqual([len(r["Data"]) for r in records], list(map(len, data)))
            self.assertEqual([r["Data"] for r in records], data)
        iterator = boto.get_shard_iterator(StreamName="s", ShardId="shardId-000000000000",
                                           ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        answer = boto.get_records(ShardIterator=iterator)
        self.assertEqual([r["Data"] for r in answer["Records"]], data[:1])
        with self.assertRaises(Failure) as refused:
            client.call("PutRecord", StreamName="s", PartitionKey="k", Data=b"x" * LARGEST)
        self.assertEqual(refused.exception.body["__type"], "InvalidArgumentException")

        self.assertEqual(node.stop(), 0)
        node.start()
        self.assertEqual([r["Data"] for r in self.read(Client(node.url), "s")], data)

    def test_enhanced_monitoring_produces_its_metrics(self):
        node = self.node()
        client, boto = Client(node.url), node.boto()
        node.create_stream("s", 1)
        node.create_stream("other", 1)
        for stream in ("s", "other"):
            client.call("PutRecords", StreamName=stream, Records=[
                {"PartitionKey": "k", "Data": b"12345"}] * 10)
        def shown(metric, stream="s", family="total"):
            wanted = {"stream": stream, "shard": "shardId-000000000000", "metric": metric}
            for name, labels, value in node.metrics().samples:
                if name == "penstock_enhanced_shard_" + family and labels == wanted:
                    return value
            return None
        self.assertIsNone(shown("IncomingRecords"))
        boto.enable_enhanced_monitoring(StreamName="s", ShardLevelMetrics=["ALL"])
        self.read(client, "s")
        # Committed on two replicas is what counts as come in.
        wait_for(lambda: shown("IncomingRecords") == 10, "ten records to be counted")
        self.assertEqual(shown("IncomingBytes"), 60)
        self.assertEqual(shown("OutgoingRecords"), 10)
        self.assertEqual(shown("OutgoingBytes"), 60)
        self.assertEqual(shown("WriteProvisionedThroughputExceeded"), 0)
        self.assertEqual(shown("ReadProvisionedThroughputExceeded"), 0)
        self.assertEqual(shown("IteratorAgeMilliseconds", family="milliseconds"), 0)
        self.assertIsNone(shown("IncomingRecords", stream="other"))
        boto.disable_enhanced_monitoring(StreamName="s", ShardLevelMetrics=["IncomingBytes"])
        self.assertIsNone(shown("IncomingBytes"))
        self.assertEqual(shown("IncomingRecords"), 10)
        # What is set outlives a restart.
        self.assertEqual(node.stop(), 0)
        node.start()
        client = Client(node.url)
        described = client.call("DescribeStreamSummary", StreamName="s")["StreamDescriptionSummary"]
        self.assertEqual(len(described["EnhancedMonitoring"][0]["ShardLevelMetrics"]), 6)


if __name__ == "__main__":
    main()
