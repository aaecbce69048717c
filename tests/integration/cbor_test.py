"""The API in CBOR, as the SDKs for Java speak it, with Debian's python3-cbor2 as the other side."""

import datetime
import http.client
import unittest
import urllib.parse

import cbor2

from node import NodeTest, main, read_shard, shard_ids

CBOR = "application/x-amz-cbor-1.1"


class Failure(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


class Milliseconds(int):
    """A time as the SDKs for Java write it: tag 1 around a whole number of milliseconds."""


class Client:
    def __init__(self, endpoint):
        self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(endpoint).netloc, timeout=60)

    def call(self, operation, **members):
        body = cbor2.dumps({key: cbor2.CBORTag(1, int(value)) if isinstance(value, Milliseconds)
                            else value for key, value in members.items()})
        self.connection.request("POST", "/", body, {
            "Content-Type": CBOR, "X-Amz-Target": "Kinesis_20131202." + operation})
        answer = self.connection.getresponse()
        body = answer.read()
        assert answer.getheader("Content-Type") == CBOR, answer.getheader("Content-Type")
        assert len(answer.getheader("x-amzn-RequestId")) == 36
        # Tag 1 is seconds to cbor2, as to RFC 8949; to Kinesis it is milliseconds.
        decoded = cbor2.loads(body.replace(b"Timestamp\xc1", b"Timestamp")) if body else None
        if answer.status != 200:
            raise Failure(answer.status, decoded)
        return decoded


class CborTest(NodeTest):
    def test_records_written_in_cbor_are_read_in_json_and_the_other_way(self):
        node = self.node()
        client, boto = Client(node.url), node.boto()
        node.create_stream("s", 2)
        data = [bytes([i % 256]) * (i * 7 % 3000) for i in range(500)]
        answer = client.call("PutRecords", StreamName="s", Records=[
            {"PartitionKey": f"Schlüssel-{i}", "Data": each} for i, each in enumerate(data)])
        self.assertEqual(answer["FailedRecordCount"], 0)
        seen = {}
        for shard in shard_ids(boto, "s"):
            for record in read_shard(boto, "s", shard):
                seen[record["SequenceNumber"]] = (record["PartitionKey"], record["Data"])
        self.assertEqual([seen[r["SequenceNumber"]] for r in answer["Records"]],
                         [(f"Schlüssel-{i}", each) for i, each in enumerate(data)])

        put = boto.put_record(StreamName="s", PartitionKey="k", Data=b"\x00\xff json")
        time_ms = Milliseconds(int(datetime.datetime.now().timestamp() * 1000) - 60_000)
        iterator = client.call("GetShardIterator", StreamName="s", ShardId=put["ShardId"],
                               ShardIteratorType="AT_TIMESTAMP", Timestamp=time_ms)["ShardIterator"]
        records = client.call("GetRecords", ShardIterator=iterator)
        last = records["Records"][-1]
        self.assertEqual((last["Data"], last["SequenceNumber"]),
                         (b"\x00\xff json", put["SequenceNumber"]))
        self.assertIsInstance(last["ApproximateArrivalTimestamp"], int)
        self.assertGreater(last["ApproximateArrivalTimestamp"], time_ms)
        self.assertEqual(records["MillisBehindLatest"], 0)

    def test_what_is_described_is_the_same_in_both(self):
        node = self.node()
        client, boto = Client(node.url), node.boto()
        client.call("CreateStream", StreamName="s", ShardCount=3)
        boto.get_waiter("stream_exists").wait(StreamName="s")
        in_cbor = client.call("DescribeStream", StreamName="s")["StreamDescription"]
        in_json = boto.describe_stream(StreamName="s")["StreamDescription"]
        created = in_json.pop("StreamCreationTimestamp")
        self.assertEqual(in_cbor.pop("StreamCreationTimestamp"), round(created.timestamp() * 1000))
        self.assertEqual(in_cbor, in_json)
        self.assertEqual(client.call("ListStreams")["StreamNames"], ["s"])
        self.assertEqual(len(client.call("ListShards", StreamName="s")["Shards"]), 3)

    def test_errors_are_cbor(self):
        client = Client(self.node().url)
        with self.assertRaises(Failure) as missing:
            client.call("DescribeStream", StreamName="nope")
        self.assertEqual(missing.exception.body,
                         {"__type": "ResourceNotFoundException",
                          "message": "Stream nope under account 000000000000 not found."})
        with self.assertRaises(Failure) as wrong:
            client.call("DescribeStream", StreamName=1)
        self.assertEqual(wrong.exception.body["__type"], "SerializationException")


if __name__ == "__main__":
    main()
